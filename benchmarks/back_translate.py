"""What a model makes of the pairs of a recipe, each side of the other: pairs for `data.back_translated`.

    TRASLUZ_DATA=... python benchmarks/back_translate.py recipes/pocket-en-es.yaml pocket-en-es runs/sets/by-model

Writes FOLDER/en.tsv, whose side `en` the model wrote (of each `es`), and FOLDER/es.tsv, with the source of the pair it
was made from in a third column, so that the recipe's `sources` hold for them, too. A pair that stands in the recipe's
own text is left out: it would teach nothing new. Stopped, it goes on where it was when its command is given again.

The recipe's `exclude` need not be known here: what shares a side with it is left out when a model is trained.
"""

import argparse
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from trasluz.files import atomic_write
from trasluz.text.readers import read_pairs
from trasluz.training.recipe_file import read_recipe


def own_pairs(recipe_path: str) -> tuple[tuple[str, str], dict[tuple[str, str], str]]:
    """Return a recipe's two languages, and its pairs with their sources."""
    data = read_recipe(recipe_path).data
    found: dict[tuple[str, str], str] = {}
    for source in data.sources or [""]:
        pairs = read_pairs(data.train, data.languages, sources=[source] if source else None, on_error=data.on_error)
        for pair in pairs:
            found.setdefault((_one_line(pair.source), _one_line(pair.target)), source)
    first, second = data.languages
    return (first, second), found


def translations(texts: list[str], model: str, source: str, target: str, folder: Path) -> dict[str, str]:
    """Return what the model makes of texts; `translate` keeps what it has done."""
    read, written = folder / f"texts.{source}", folder / f"texts.{source}.{target}"
    with atomic_write(read, "w") as file:
        file.writelines(f"{text}\n" for text in texts)
    told = ["--from", source, "--to", target, "--input", str(read), "--output", str(written)]
    command = [sys.executable, "-m", "trasluz", "translate", model, *told, "--beam", "4", "--dtype", "int8"]
    subprocess.run(command, check=True)
    with written.open(encoding="utf-8", newline="\n") as file:
        return dict(zip(texts, map(_one_line, file), strict=True))


def write_new(path: Path, rows: Mapping[tuple[str, str], str], languages: tuple[str, str]) -> None:
    """Write pairs and their sources as a table, whose readers know no quotes around a cell."""
    lines = (f"{first}\t{second}\t{source}\n" for (first, second), source in sorted(rows.items()))
    with atomic_write(path, "w") as file:
        file.writelines(["\t".join([*languages, "source\n"]), *lines])


def _one_line(text: str) -> str:
    return " ".join(text.split())


def main() -> None:
    """Translate both ways, and write both files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe")
    parser.add_argument("model")
    parser.add_argument("folder", type=Path)
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    languages, pairs = own_pairs(options.recipe)
    for side, language in enumerate(languages):
        given = sorted({pair[1 - side] for pair in pairs})
        made = translations(given, options.model, languages[1 - side], language, options.folder)
        new = {}
        for pair, source in pairs.items():
            text = made[pair[1 - side]]
            by_model = (text, pair[1]) if side == 0 else (pair[0], text)
            if text and by_model not in pairs:
                new[by_model] = source
        write_new(options.folder / f"{language}.tsv", new, languages)
        print(f"{options.folder / f'{language}.tsv'}: {len(new):,} pairs")


if __name__ == "__main__":
    main()
