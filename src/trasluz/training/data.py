"""From a recipe to what can be trained on: held-out pairs, tokenizers, token cache; made once, then found again.

<cache>/<fingerprint>/
  source tokenizer files, and target_ ones where the vocabularies are separate
  tokens/          the token cache: source ids, target ids, (file, line)
  held_out.jsonl   the validation pairs, where `data.valid` is absent
  data.json        counts, and the names of the files
"""

import hashlib
import heapq
import json
import os
import shutil
import sys
import tempfile
import unicodedata
from collections import Counter
from collections.abc import Generator, Iterable, Iterator
from dataclasses import asdict, dataclass, field
from itertools import chain, islice
from pathlib import Path
from typing import Any

from trasluz.checkpoints.model_folder import language_tag
from trasluz.checkpoints.tokenizer_files import TARGET_PREFIX, save_tokenizers
from trasluz.errors import DataError, RecipeError, RequestError
from trasluz.files import atomic_folder
from trasluz.text.data_naming import find_files
from trasluz.text.encoding_workers import EncodingWorkers
from trasluz.text.readers import Pair, ReadReport, read_pairs
from trasluz.text.token_cache import TokenCache
from trasluz.text.tokenizer import Tokenizer, train_tokenizer
from trasluz.training.recipe import Recipe
from trasluz.training.reports import Notice, Report

FORMAT = 1
_AT_ONCE = 4096
# So many chunks are turned into tokens sooner than other processes could start.
_CHUNKS_ALONE = 64


@dataclass
class DataCounts:
    """What became of the training pairs."""

    read: int = 0
    malformed: int = 0
    other_sources: int = 0
    excluded: int = 0
    held_out: int = 0
    too_long: int = 0
    used: int = 0
    # Rows of each allowed source, where `data.sources` says which.
    by_source: dict[str, int] = field(default_factory=dict)
    # What was malformed, with the first places.
    complaint: str = ""

    def __str__(self) -> str:
        """Say it in one sentence."""
        reasons = {
            "malformed": self.malformed,
            "of other sources": self.other_sources,
            "sharing a side with excluded data": self.excluded,
            "held out or sharing a side with held-out pairs": self.held_out,
            "too long": self.too_long,
        }
        left_out = [f"{count:,} {reason}" for reason, count in reasons.items() if count]
        sources = ", ".join(f"{count:,} from {source}" for source, count in sorted(self.by_source.items()))
        return (
            f"{self.used:,} training pairs"
            + (f"; left out: {', '.join(left_out)}" if left_out else "")
            + (f"; rows read of the allowed sources: {sources}" if sources else "")
            + (f"; malformed: {self.complaint}" if self.complaint else "")
        )


@dataclass(frozen=True)
class PreparedData:
    """Everything that training needs of the text."""

    # Tokenizer or, where a run starts from a Marian folder, MarianTokenizer.
    source_tokenizer: Any
    target_tokenizer: Any
    cache: TokenCache
    # Names of the training files, by the numbers in the cache's column of places.
    files: list[str]
    valid: list[tuple[str, str]]
    counts: DataCounts

    def tags(self, recipe: Recipe) -> tuple[int, int] | None:
        """Return the ids of the tags that say where to, for pairs as they stand and turned round."""
        if not recipe.data.both_directions:
            return None
        first, second = (self.source_tokenizer.id_of(language_tag(language)) for language in recipe.data.languages)
        if first is None or second is None:
            raise RequestError(
                f"the tokenizer has no tags {' and '.join(map(language_tag, recipe.data.languages))}, which "
                "data.both_directions needs: train a new one, or set data.both_directions to false"
            )
        return second, first


def prepare_data(recipe: Recipe, tokenizers: tuple[Any, Any] | None = None) -> Generator[Report, None, PreparedData]:
    """Read, count, tokenise and store the recipe's text, or find what an earlier run stored.

    `tokenizers` are used as they are, in place of new ones. Yields what is worth saying on the way.
    """
    if tokenizers is None and recipe.tokenizer.load:
        tokenizers = load_tokenizers(Path(recipe.tokenizer.load))
    _files(recipe, "valid")
    folder = Path(recipe.data.cache or Path(recipe.output) / "cache") / _fingerprint(recipe, tokenizers)
    if (folder / "data.json").exists():
        yield Notice(f"Using the tokens stored in {folder}.")
    else:
        yield from _Preparation(recipe, folder).run(tokenizers)
    data = _open(recipe, folder, tokenizers)
    yield Notice(f"{data.counts}.")
    if recipe.data.valid is None:
        yield Notice(
            f"data.valid is absent: {len(data.valid):,} pairs were held out by seed {recipe.training.seed}; "
            f"they stand in {folder / 'held_out.jsonl'}."
        )
    return data


def load_tokenizers(folder: Path) -> tuple[Tokenizer, Tokenizer]:
    """Return the source and the target tokenizer of a folder; one and the same where they are shared."""
    source = Tokenizer.load(folder)
    has_two = (folder / f"{TARGET_PREFIX}tokenizer.json").exists()
    return source, Tokenizer.load(folder, TARGET_PREFIX) if has_two else source


def _open(recipe: Recipe, folder: Path, tokenizers: tuple[Any, Any] | None) -> PreparedData:
    source, target = tokenizers or load_tokenizers(folder)
    stored = json.loads((folder / "data.json").read_text(encoding="utf-8"))
    if recipe.data.valid is None:
        lines = (folder / "held_out.jsonl").read_text(encoding="utf-8").splitlines()
        first, second = recipe.data.languages
        valid = [(pair[first], pair[second]) for pair in map(json.loads, lines)]
    else:
        found = read_pairs(recipe.data.valid, recipe.data.languages, on_error=recipe.data.on_error)
        valid = [(pair.source, pair.target) for pair in found]
    if not valid:
        raise DataError(f"{recipe.place('data.valid')}: there is no pair in it to choose by")
    return PreparedData(
        source, target, TokenCache.open(folder / "tokens"), stored["files"], valid, DataCounts(**stored["counts"])
    )


def _fingerprint(recipe: Recipe, tokenizers: tuple[Any, Any] | None) -> str:
    """Return a name that changes with anything the stored tokens depend on."""
    data = recipe.data.model_dump(include={"train", "languages", "sources", "exclude", "on_error", "max_length"})
    if recipe.data.valid is None:
        data |= {"held_out": recipe.data.held_out, "seed": recipe.training.seed}
    told = {
        "format": FORMAT,
        **data,
        # Direction tags stand in the vocabulary.
        "both_directions": recipe.data.both_directions,
        "tokenizer": [one.fingerprint for one in tokenizers] if tokenizers else recipe.tokenizer.model_dump(),
        "files": [_file_state(path) for path in _files(recipe, "train") + _files(recipe, "exclude")],
    }
    return hashlib.blake2b(json.dumps(told, sort_keys=True, default=str).encode(), digest_size=8).hexdigest()


def _files(recipe: Recipe, key: str) -> list[str]:
    """Return the files a key of the section `data` names; a name that fits nothing is refused with the key's place."""
    entry = getattr(recipe.data, key)
    try:
        if not entry:
            return []
        return [path for file in find_files(entry, recipe.data.languages) for path in file.paths]
    except DataError as error:
        raise DataError(f"{recipe.place(f'data.{key}')}: {error}") from None


def _file_state(path: str) -> list[Any]:
    if path.startswith("hf:"):
        return [path]
    state = os.stat(path)
    return [path, state.st_size, state.st_mtime_ns]


def sides(pair: Pair) -> tuple[str, str]:
    """Return both sides in the form in which they are compared: NFC, blanks folded."""
    return _plain(pair.source), _plain(pair.target)


def _plain(text: str) -> str:
    return " ".join(unicodedata.normalize("NFC", text).split())


@dataclass
class _Preparation:
    """One making of the stored tokens."""

    recipe: Recipe
    folder: Path
    counts: DataCounts = field(default_factory=DataCounts)
    unseen: set[str] = field(default_factory=set)
    held_sides: set[str] = field(default_factory=set)

    def run(self, tokenizers: tuple[Any, Any] | None) -> Iterator[Report]:
        data = self.recipe.data
        if data.cache is None and self.folder.parent.is_dir():
            # What a kill left half made. In a cache that runs share it may be another one's, being made.
            for left in self.folder.parent.glob(".*.part"):
                shutil.rmtree(left, ignore_errors=True)
        yield Notice("Reading the training text.")
        for entry in data.exclude:
            for pair in read_pairs(entry, data.languages, on_error=data.on_error):
                self.unseen.update(sides(pair))
        held_out = self._hold_out() if data.valid is None else []
        for pair in held_out:
            self.held_sides.update(sides(pair))
        with atomic_folder(self.folder) as folder:
            if tokenizers is None:
                yield Notice("Training the tokenizer." if self.recipe.tokenizer.shared else "Training two tokenizers.")
                tokenizers = self._train_tokenizers()
                save_tokenizers(folder, *tokenizers)
            source, target = tokenizers
            yield Notice("Turning text into tokens.")
            files: dict[str, int] = {}
            TokenCache.build(
                folder / "tokens",
                self._columns(source, target, files),
                fingerprint=self.folder.name,
                names=("source", "target", "place"),
            )
            if not self.counts.used:
                raise DataError(f"{self.recipe.place('data.train')}: no pair is left to train on: {self.counts}")
            if data.valid is None:
                first, second = data.languages
                lines = (json.dumps({first: p.source, second: p.target}, ensure_ascii=False) for p in held_out)
                (folder / "held_out.jsonl").write_text("".join(line + "\n" for line in lines), encoding="utf-8")
            stored = {"counts": asdict(self.counts), "files": list(files)}
            (folder / "data.json").write_text(json.dumps(stored, indent=1), encoding="utf-8")

    def _read(self, report: ReadReport | None = None) -> Iterator[Pair]:
        data = self.recipe.data
        return read_pairs(
            data.train, data.languages, sources=data.sources, on_error=data.on_error, report=report or ReadReport()
        )

    def _kept(self, counts: Counter[str], report: ReadReport | None = None) -> Iterator[Pair]:
        """Yield the pairs that may be trained on; what is left out goes into `counts`."""
        compare = bool(self.unseen or self.held_sides)
        for pair in self._read(report):
            if compare:
                both = sides(pair)
                if not self.unseen.isdisjoint(both):
                    counts["excluded"] += 1
                    continue
                if not self.held_sides.isdisjoint(both):
                    counts["held_out"] += 1
                    continue
            yield pair

    def _hold_out(self) -> list[Pair]:
        """Draw pairs in one pass: those whose source sides have the smallest hashes, equal sources together."""
        wanted, seed = self.recipe.data.held_out, self.recipe.training.seed
        drawn: dict[int, list[Pair]] = {}
        largest: list[int] = []
        total = 0
        for pair in self._kept(Counter()):
            total += 1
            number = _draw(seed, _plain(pair.source))
            if number in drawn:
                drawn[number].append(pair)
            elif len(drawn) < wanted:
                drawn[number] = [pair]
                heapq.heappush(largest, -number)
            elif number < -largest[0]:
                drawn[number] = [pair]
                del drawn[-heapq.heapreplace(largest, -number)]
        held_out: list[Pair] = []
        for number in sorted(drawn):
            if len(held_out) >= min(wanted, max(total // 10, 1)) or len(held_out) + len(drawn[number]) >= total:
                break
            held_out += drawn[number]
        return held_out

    def _train_tokenizers(self) -> tuple[Tokenizer, Tokenizer]:
        wanted = self.recipe.tokenizer
        tags = [language_tag(language) for language in self.recipe.data.languages]
        try:
            if wanted.shared:
                both = (text for pair in self._kept(Counter()) for text in (pair.source, pair.target))
                special = tags if self.recipe.data.both_directions else []
                shared = train_tokenizer(both, wanted.kind, wanted.vocab_size, special_tokens=special)
                return shared, shared
            source = (pair.source for pair in self._kept(Counter()))
            target = (pair.target for pair in self._kept(Counter()))
            return (
                train_tokenizer(source, wanted.kind, wanted.vocab_size),
                train_tokenizer(target, wanted.kind, wanted.vocab_size),
            )
        except RequestError as error:
            if isinstance(error, DataError):
                raise
            raise RecipeError(f"{self.recipe.place('tokenizer.vocab_size')}: {error}") from error

    def _columns(self, source: Any, target: Any, files: dict[str, int]) -> Iterator[tuple[Any, Any, list[int]]]:
        counts: Counter[str] = Counter()
        report = ReadReport()
        longest = self.recipe.data.max_length
        for some, (sources, targets) in self._encoded(source, target, _chunks(self._kept(counts, report))):
            for pair, source_ids, target_ids in zip(some, sources, targets, strict=True):
                if len(source_ids) > longest or len(target_ids) > longest:
                    counts["too_long"] += 1
                    continue
                counts["used"] += 1
                file = files.setdefault(str(pair.place.path), len(files))
                yield source_ids, target_ids, [file, pair.place.line]
        self.counts = DataCounts(
            read=report.read,
            malformed=report.malformed,
            other_sources=report.other_sources,
            by_source=dict(report.kept_by_source),
            complaint="; ".join(f"{reason} ({', '.join(places)})" for reason, places in report.examples.items()),
            **counts,
        )

    def _encoded(
        self, source: Any, target: Any, chunks: Iterator[list[Pair]]
    ) -> Iterator[tuple[list[Pair], list[Any]]]:
        """Yield the pairs, some at a time, with the ids of both sides."""
        sides = ((some, [[pair.source for pair in some], [pair.target for pair in some]]) for some in chunks)
        count = self.recipe.training.threads or os.cpu_count() or 1
        ours = isinstance(source, Tokenizer) and isinstance(target, Tokenizer)
        alone = islice(sides, _CHUNKS_ALONE) if ours and count > 1 and sys.executable else sides
        for some, texts in alone:
            yield some, [source.encode_arrays(texts[0]), target.encode_arrays(texts[1])]
        first = next(sides, None)
        if first is None:
            return
        with tempfile.TemporaryDirectory() as name:
            save_tokenizers(Path(name), source, target)
            prefixes = ("", "" if target is source else TARGET_PREFIX)
            with EncodingWorkers(Path(name), prefixes, count) as workers:
                yield from workers.encode(chain([first], sides))


def _draw(seed: int, text: str) -> int:
    return int.from_bytes(hashlib.blake2b(f"{seed}\n{text}".encode(), digest_size=8).digest(), "big")


def _chunks(pairs: Iterable[Pair]) -> Iterator[list[Pair]]:
    iterator = iter(pairs)
    while some := list(islice(iterator, _AT_ONCE)):
        yield some
