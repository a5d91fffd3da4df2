"""What may be trained on: held out, excluded, of allowed sources, malformed, too long; stored and found again."""

from itertools import product
from pathlib import Path

import pytest
from small_run import small_recipe, write_pairs

from trasluz.errors import DataError, RecipeError
from trasluz.training.data import PreparedData, prepare_data
from trasluz.training.examples import in_chunks
from trasluz.training.recipe import Recipe
from trasluz.training.reports import Notice
from trasluz.training.translation_examples import TranslationExamples, direction_tags
from trasluz.training.translation_job import _piece_dropout, validation_sets
from trasluz.training.translation_stream import TranslationStream


def prepare(recipe: Recipe) -> tuple[PreparedData, list[str]]:
    reports, steps = [], prepare_data(recipe, TranslationExamples(recipe))
    while True:
        try:
            report = next(steps)
        except StopIteration as stop:
            return stop.value, reports
        assert isinstance(report, Notice)
        reports.append(report.text)


def training_texts(data: PreparedData) -> list[tuple[str, str]]:
    return [
        (data.source_tokenizer.decode(source.tolist()), data.target_tokenizer.decode(target.tolist()))
        for source, target, _ in data.cache
    ]


def test_held_out_pairs_share_no_side_with_training_pairs(tmp_path: Path) -> None:
    data, said = prepare(small_recipe(tmp_path, "data.held_out=15"))
    assert 3 < len(data.valid) < 40
    kept = training_texts(data)
    assert not {s for s, _, _ in data.valid} & {s for s, _ in kept}
    assert not {t for _, t, _ in data.valid} & {t for _, t in kept}
    assert data.counts.used == len(kept) and data.counts.used + data.counts.held_out == data.counts.read == 240
    assert "data.valid is absent" in said[-1] and "held_out.jsonl" in said[-1]


def test_where_all_share_a_text_none_can_be_held_out(tmp_path: Path) -> None:
    (tmp_path / "pairs.tsv").write_text("ant bee\tANT BEE\nant bee\tBEE ANT\n")
    with pytest.raises(
        DataError,
        match=r"data\.train: no pair can be held out, since all of them share a text: name others in data\.valid",
    ):
        prepare(small_recipe(tmp_path))
    assert not list((tmp_path / "run" / "cache").glob("*/data.json"))


def test_signs_that_end_lines_elsewhere_stay_within_held_out_pairs(tmp_path: Path) -> None:
    odd = "ant\x85bee\u2028cat\x0bdog"
    write_pairs(tmp_path / "pairs.tsv")
    lines = (tmp_path / "pairs.tsv").read_text(encoding="utf-8").split("\n")
    (tmp_path / "pairs.tsv").write_text("\n".join(line and f"{odd} {line}" for line in lines), encoding="utf-8")
    recipe = small_recipe(tmp_path, "data.held_out=15")
    first, again = (prepare(recipe)[0].valid for _ in range(2))
    assert len(first) > 10 and [one.source for one in first] == [one.source for one in again]
    assert all(one.source.startswith(odd) for one in first)


def test_the_seed_decides_which(tmp_path: Path) -> None:
    first, _ = prepare(small_recipe(tmp_path))
    same, _ = prepare(small_recipe(tmp_path, name="b"))
    other, _ = prepare(small_recipe(tmp_path, "training.seed=2", name="c"))
    assert first.valid == same.valid != other.valid


def test_excluded_pairs_are_dropped_by_either_side_and_counted(tmp_path: Path) -> None:
    (tmp_path / "train.tsv").write_text(
        "ant\tANT\nbee\tBEE\ncat\tBEE\n  dog\u00a0eel\tX\nfox\tFOX\ncafe\u0301\tY\ngnu\tGNU\n"
    )
    (tmp_path / "test.tsv").write_text("bee\tOTHER\nother\tANT\ndog eel\tZ\ncaf\u00e9\tW\n")
    (tmp_path / "valid.tsv").write_text("gnu\tGNU\n")
    recipe = small_recipe(
        tmp_path,
        f"data.train.path={tmp_path / 'train.tsv'}",
        f"data.exclude=[{{path: {tmp_path / 'test.tsv'}, columns: {{en: 1, es: 2}}, header: false}}]",
        f"data.valid={{path: {tmp_path / 'valid.tsv'}, columns: {{en: 1, es: 2}}, header: false}}",
    )
    data, said = prepare(recipe)
    assert training_texts(data) == [("cat", "BEE"), ("fox", "FOX"), ("gnu", "GNU")]
    assert data.counts.excluded == 4
    assert "3 training pairs; left out: 4 sharing a text with excluded data" in said[-1]
    assert [pair[:2] for pair in data.valid] == [("gnu", "GNU")]


def test_only_rows_of_the_allowed_sources_reach_training(tmp_path: Path) -> None:
    words = ["".join(letters) for letters in product("abcde", "fghij", "klm")]
    good = {word for number, word in enumerate(words) if number % 3}
    rows = ["source\ten\tes", *(f"{'good' if word in good else 'bad'}\tant {word}\tANT {word}" for word in words)]
    (tmp_path / "mix.tsv").write_text("\n".join(rows) + "\n")
    recipe = small_recipe(
        tmp_path, f"data.train={tmp_path / 'mix.tsv'}", "data.sources=[good]", "tokenizer.vocab_size=200"
    )
    data, said = prepare(recipe)
    allowed = {f"ant {word}" for word in good}
    assert {source for source, _ in training_texts(data)} | {source for source, _, _ in data.valid} == allowed
    assert (data.counts.other_sources, data.counts.by_source) == (25, {"good": 50})
    assert any("25 of other sources" in line and "50 from good" in line for line in said)
    # A word of another source is not even in the vocabulary.
    tokenizer = data.source_tokenizer
    known = {word for word in words if tokenizer.unk_id not in tokenizer.encode(word)}
    assert known and known <= good


def test_malformed_lines_stop_or_are_counted_with_their_place(tmp_path: Path) -> None:
    good = write_pairs(tmp_path / "pairs.tsv").read_text().splitlines()
    (tmp_path / "pairs.tsv").write_text("\n".join([*good[:5], "only one side", *good[5:9], "\tX", *good[9:]]) + "\n")
    with pytest.raises(DataError, match=r"pairs\.tsv:6: .*on_error"):
        prepare(small_recipe(tmp_path))
    data, said = prepare(small_recipe(tmp_path, "data.on_error=skip"))
    assert data.counts.malformed == 2
    assert any("2 malformed" in line and "pairs.tsv:6" in line and "pairs.tsv:11" in line for line in said)


def test_long_pairs_are_left_out_and_counted(tmp_path: Path) -> None:
    data, _ = prepare(small_recipe(tmp_path, "data.max_length=4"))
    lengths = [len(line.split("\t")[0].split()) for line in (tmp_path / "pairs.tsv").read_text().splitlines()]
    assert 0 < data.counts.too_long <= sum(length > 4 for length in lengths)
    assert max(len(source) for source, _, _ in data.cache) == 4


def test_nothing_left_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"data\.train: no pair is left to train on: 0 training pairs; left out: .* too long"
    ):
        prepare(small_recipe(tmp_path, "data.max_length=1"))
    with pytest.raises(DataError, match=r"left to train on: 0 training pairs; left out: \d+ sharing a text with excl"):
        prepare(small_recipe(tmp_path, f"data.exclude=[{tmp_path / 'pairs.tsv'}]"))
    assert not list((tmp_path / "run" / "cache").glob("*/data.json"))


def test_tokens_are_found_again_until_something_changes(tmp_path: Path) -> None:
    shared = f"data.cache={tmp_path / 'cache'}"
    prepare(small_recipe(tmp_path, shared))
    assert prepare(small_recipe(tmp_path, shared, name="b"))[1][0].startswith("Using the tokens stored in")
    for change in ("tokenizer.kind=character", "data.max_length=9", "training.seed=3", "data.held_out=7"):
        assert prepare(small_recipe(tmp_path, shared, change, name="c"))[1][0] == "Reading the training text."
    write_pairs(tmp_path / "pairs.tsv", seed=6)
    assert prepare(small_recipe(tmp_path, shared))[1][0] == "Reading the training text."


def test_tokenizers_are_loaded_from_a_folder(tmp_path: Path) -> None:
    first, _ = prepare(small_recipe(tmp_path))
    first.source_tokenizer.save(tmp_path / "tokens")
    second, said = prepare(small_recipe(tmp_path, f"tokenizer.load={tmp_path / 'tokens'}", name="b"))
    assert second.source_tokenizer.fingerprint == first.source_tokenizer.fingerprint
    assert "Training the tokenizer." not in said


def make_stream(data: PreparedData, recipe: Recipe, micro: int | None = None) -> TranslationStream:
    return TranslationStream(
        data.cache,
        data.files,
        pad_id=0,
        start_id=1,
        eos_id=2,
        tags=direction_tags(recipe, data.source_tokenizer),
        batch_tokens=100,
        micro_batch_tokens=micro,
        seed=1,
    )


def test_the_stream_can_begin_anywhere_and_knows_its_lines(tmp_path: Path) -> None:
    recipe = small_recipe(tmp_path)
    data, _ = prepare(recipe)
    stream = make_stream(data, recipe)
    whole = list(stream.updates(1, 0))
    assert len(whole) == stream.num_updates(1)
    for (one,), (other,) in zip(whole[4:], make_stream(data, recipe).updates(1, 4), strict=True):
        assert one.source.equal(other.source) and one.target_output.equal(other.target_output)
    lines = (tmp_path / "pairs.tsv").read_text().splitlines()
    places = stream.places(1, 4)
    for row, place in enumerate(places):
        path, line = place.rsplit(":", 1)
        assert path == str(tmp_path / "pairs.tsv")
        source = data.source_tokenizer.decode(whole[4][0].source[row].tolist())
        assert lines[int(line) - 1].split("\t")[0] == source
    assert sum(len(stream.places(1, index)) for index in range(len(whole))) == len(data.cache)


def test_both_directions_give_every_pair_twice_with_its_tag(tmp_path: Path) -> None:
    recipe = small_recipe(tmp_path, "data.both_directions=true")
    data, _ = prepare(recipe)
    stream = make_stream(data, recipe)
    to_es, to_en = data.source_tokenizer.id_of("<2es>"), data.source_tokenizer.id_of("<2en>")
    source, target = (ids.tolist() for ids in data.cache[3][:2])
    assert [ids.tolist() if hasattr(ids, "tolist") else ids for ids in stream.example(6)] == [[to_es, *source], target]
    assert [ids.tolist() if hasattr(ids, "tolist") else ids for ids in stream.example(7)] == [[to_en, *target], source]
    rows = sum(len(batch.source) for pieces in stream.updates(0, 0) for batch in pieces)
    assert rows == 2 * len(data.cache) == stream.num_examples
    for pieces in stream.updates(0, 0):
        for batch in pieces:
            assert max(batch.source.numel(), batch.target_output.numel()) <= 100
    one, other = validation_sets(data, recipe)
    assert (one.name, other.name) == ("en-es", "es-en")
    assert one.sources[0][0] == to_es and other.sources[0][1:] == one.targets[0]
    assert other.references[0] == data.valid[0][0]


def test_with_piece_dropout_no_epoch_cuts_alike_and_every_one_can_be_had_again(tmp_path: Path) -> None:
    recipe = small_recipe(
        tmp_path, "training.piece_dropout=0.3", "tokenizer.kind=bpe", "tokenizer.vocab_size=300", "data.max_length=99"
    )
    data, _ = prepare(recipe)

    def drawn(epoch: int) -> list[list[list[int]]]:
        stream = make_stream(data, recipe)
        stream.piece_dropout = _piece_dropout(recipe, data)
        return [batch.source.tolist() for pieces in stream.updates(epoch, 0) for batch in pieces if batch]

    first, again, second = drawn(0), drawn(0), drawn(1)
    assert first == again != second
    decode = data.source_tokenizer.decode
    texts = [sorted(decode(row) for rows in epoch for row in rows) for epoch in (first, second)]
    assert texts[0] == texts[1] == sorted(source for source, _ in training_texts(data))
    assert sum(len(row) for rows in first for row in rows) > 1.1 * sum(len(ids) for ids, _, _ in data.cache)


def test_piece_dropout_needs_joined_pieces(tmp_path: Path) -> None:
    recipe = small_recipe(tmp_path, "training.piece_dropout=0.3", "tokenizer.kind=character")
    data, _ = prepare(recipe)
    with pytest.raises(RecipeError, match=r"training\.piece_dropout is 0\.3, but the pieces .* one of kind bpe"):
        _piece_dropout(recipe, data)


def test_pieces_hold_the_update_and_no_more(tmp_path: Path) -> None:
    recipe = small_recipe(tmp_path)
    data, _ = prepare(recipe)
    whole = list(make_stream(data, recipe).updates(0, 0))
    pieces = list(make_stream(data, recipe, micro=30).updates(0, 0))
    for (one,), several in zip(whole, pieces, strict=True):
        assert sum(piece.num_target_tokens for piece in several) == one.num_target_tokens
        assert all(max(piece.source.numel(), piece.target_output.numel()) <= 30 for piece in several)


def test_the_real_test_sentences_stay_unseen(data: Path, tmp_path: Path) -> None:
    tatoeba = data / "tatoeba-en-es"
    recipe = small_recipe(
        tmp_path,
        f"data.train={{path: {tatoeba}/spa-eng-2018.tsv.xz, columns: {{en: 1, es: 2}}, header: false}}",
        f'data.exclude=["{tatoeba}/tatoeba-test-v2021-08-07.{{eng,spa}}"]',
        f"data.valid={{path: {write_pairs(tmp_path / 'valid.tsv')}, columns: {{en: 1, es: 2}}, header: false}}",
        "data.max_length=199",
    )
    prepared, _ = prepare(recipe)
    # Counted independently of this program.
    assert prepared.counts.used == 110_259


def test_long_texts_come_a_few_at_a_time() -> None:
    sizes = [2_500_000, 1_000_000, 1_000_000, 5_000_000, 10, 10]
    chunks = [[len(text) for text in some] for some in in_chunks(["x" * size for size in sizes], lambda one: (one,))]
    assert chunks == [sizes[:3], sizes[3:4], sizes[4:]]
    assert list(map(len, in_chunks(range(5000), lambda one: ()))) == [4096, 904]


@pytest.mark.parametrize("shared", ["true", "false"])
def test_several_processes_store_the_same_tokens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shared: str) -> None:
    alone, _ = prepare(small_recipe(tmp_path, f"tokenizer.shared={shared}", name="a"))
    monkeypatch.setattr("trasluz.training.examples._AT_ONCE", 7)
    monkeypatch.setattr("trasluz.training.examples._CHUNKS_ALONE", 3)
    together, _ = prepare(small_recipe(tmp_path, f"tokenizer.shared={shared}", "training.threads=2", name="b"))
    assert training_texts(together) == training_texts(alone)
    assert together.counts == alone.counts
    assert [place.tolist() for _, _, place in together.cache] == [place.tolist() for _, _, place in alone.cache]
