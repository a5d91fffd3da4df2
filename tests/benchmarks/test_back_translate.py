"""What a model makes of a recipe's pairs stands beside what it was made of, as `data.back_translated` reads it."""

import sys
from pathlib import Path

import back_translate
import pytest

from trasluz.text.readers import ReadReport
from trasluz.training.recipe_file import parse_recipe
from trasluz.training.translation_examples import TranslationExamples

ROWS = ["en\tes\tsource", "The house is very big.\tLa vivienda es enorme.\tours", "Good night.\tBuenas noches.\tours"]
QUOTED = '"Stay," she said.\t"Quédate", dijo ella.\tours'


def test_files_for_a_recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "pairs.tsv").write_text("\n".join([*ROWS, QUOTED, "I see.\tYa veo.\tothers", ""]), encoding="utf-8")
    text = f"""
        task: translate
        model: {{preset: transformer-tiny}}
        data: {{train: {tmp_path}/pairs.tsv, sources: [ours], languages: [en, es], both_directions: true}}
        tokenizer: {{vocab_size: 200}}
        output: {tmp_path}/run
    """
    (tmp_path / "recipe.yaml").write_text(text, encoding="utf-8")
    made = tmp_path / "by-model"
    monkeypatch.setattr(sys, "argv", ["back_translate.py", str(tmp_path / "recipe.yaml"), "pocket-en-es", str(made)])
    back_translate.main()
    rows = [line.split("\t") for line in (made / "es.tsv").read_text(encoding="utf-8").splitlines()]
    assert rows[0] == ["en", "es", "source"]
    assert all(source == "ours" and f"{en}\t{es}\tours" not in ROWS for en, es, source in rows[1:])
    assert {en for en, *_ in rows[1:]} >= {"The house is very big."}
    assert {row.split("\t")[0] for row in (*ROWS, QUOTED)} >= {en for en, *_ in rows}
    override = f"data.back_translated={{en: {made}/en.tsv, es: {made}/es.tsv}}"
    recipe = parse_recipe(text, [override])
    read = list(TranslationExamples(recipe).read_further(ReadReport()))
    assert [(pair.source, pair.target) for pair in read if pair.by_model == 1] == [(en, es) for en, es, _ in rows[1:]]
