"""From a recipe to what can be trained on: held-out examples, tokenizers, token cache; made once, then found again.

<cache>/<fingerprint>/
  tokenizer files
  tokens/          the token cache: the columns of the task's examples, and (file, line)
  held_out.jsonl   the validation examples, where `data.valid` is absent
  data.json        counts, labels, and the names of the files

How examples are read, compared and turned into tokens is their task's affair (`examples.py`).
"""

import hashlib
import heapq
import json
import os
import shutil
import unicodedata
from collections import Counter
from collections.abc import Generator, Iterator
from dataclasses import asdict, dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any, Generic

from trasluz.errors import DataError
from trasluz.files import atomic_folder
from trasluz.text.data_naming import find_files
from trasluz.text.readers import ReadReport
from trasluz.text.token_cache import TokenCache
from trasluz.training.examples import Examples, ExampleT, Tokenizers
from trasluz.training.recipe import Recipe
from trasluz.training.reports import Notice, Report

FORMAT = 1


@dataclass
class DataCounts:
    """What became of the training examples."""

    read: int = 0
    malformed: int = 0
    other_sources: int = 0
    excluded: int = 0
    held_out: int = 0
    too_long: int = 0
    used: int = 0
    # Of those: how many have no label, or a side that a model wrote.
    unlabelled: int = 0
    back_translated: int = 0
    # Rows of each allowed source, where `data.sources` says which.
    by_source: dict[str, int] = field(default_factory=dict)
    # What was malformed, with the first places.
    complaint: str = ""
    # What one example is called: "pair", "text".
    kind: str = "pair"

    def __str__(self) -> str:
        """Say it in one sentence."""
        reasons = {
            "malformed": self.malformed,
            "of other sources": self.other_sources,
            "sharing a text with excluded data": self.excluded,
            f"held out or sharing a text with held-out {self.kind}s": self.held_out,
            "too long": self.too_long,
        }
        left_out = [f"{count:,} {reason}" for reason, count in reasons.items() if count]
        sources = ", ".join(f"{count:,} from {source}" for source, count in sorted(self.by_source.items()))
        return (
            f"{self.used:,} training {self.kind}s"
            + (f", {self.unlabelled:,} of them without labels" if self.unlabelled else "")
            + (f", {self.back_translated:,} of them back-translated" if self.back_translated else "")
            + (f"; left out: {', '.join(left_out)}" if left_out else "")
            + (f"; rows read of the allowed sources: {sources}" if sources else "")
            + (f"; malformed: {self.complaint}" if self.complaint else "")
        )


@dataclass(frozen=True)
class PreparedData(Generic[ExampleT]):
    """Everything that training needs of the text."""

    tokenizers: Tokenizers
    cache: TokenCache
    # Names of the training files, by the numbers in the cache's column of places.
    files: list[str]
    valid: list[ExampleT]
    counts: DataCounts
    # The classes, of tasks that have such.
    labels: list[str] = field(default_factory=list)

    @property
    def source_tokenizer(self) -> Any:
        """The tokenizer of what is read."""
        return self.tokenizers[0]

    @property
    def target_tokenizer(self) -> Any:
        """The tokenizer of what is written."""
        return self.tokenizers[1]

    @property
    def identity(self) -> dict[str, Any]:
        """What ids and labels mean, and how many rows an epoch has: where one differs, a run cannot be gone on with."""
        return {
            "tokenizer": [one.fingerprint for one in self.tokenizers],
            "labels": hashlib.blake2b(json.dumps(self.labels).encode(), digest_size=8).hexdigest(),
            "number of rows": len(self.cache),
        }


def prepare_data(
    recipe: Recipe, examples: Examples[ExampleT], tokenizers: Tokenizers | None = None
) -> Generator[Report, None, PreparedData[ExampleT]]:
    """Read, count, tokenise and store the recipe's text, or find what an earlier run stored.

    `tokenizers` are used as they are, in place of new ones. Yields what is worth saying on the way.
    """
    if tokenizers is None and recipe.tokenizer.load:
        tokenizers = examples.load_tokenizers(Path(recipe.tokenizer.load))
    _files(recipe, "valid", examples)
    folder = Path(recipe.data.cache or Path(recipe.output) / "cache") / _fingerprint(recipe, examples, tokenizers)
    if (folder / "data.json").exists():
        yield Notice(f"Using the tokens stored in {folder}.")
    else:
        yield from _Preparation(recipe, examples, folder).run(tokenizers)
    data = _open(recipe, examples, folder, tokenizers)
    yield Notice(f"{data.counts}.")
    if recipe.data.valid is None:
        yield Notice(
            f"data.valid is absent: {len(data.valid):,} {examples.kind}s were held out by seed {recipe.training.seed}; "
            f"they stand in {folder / 'held_out.jsonl'}."
        )
    return data


def _open(
    recipe: Recipe, examples: Examples[ExampleT], folder: Path, tokenizers: Tokenizers | None
) -> PreparedData[ExampleT]:
    stored = json.loads((folder / "data.json").read_text(encoding="utf-8"))
    examples.labels = stored.get("labels", [])
    if recipe.data.valid is None:
        # By line feeds alone: texts have other signs in them that end a line for Python.
        lines = (folder / "held_out.jsonl").read_text(encoding="utf-8").rstrip("\n").split("\n")
        valid = [examples.from_record(json.loads(line)) for line in lines if line]
    else:
        valid = list(examples.read(recipe.data.valid, ReadReport()))
    if not valid:
        raise DataError(f"{recipe.place('data.valid')}: there is no {examples.kind} in it to choose by")
    return PreparedData(
        tokenizers or examples.load_tokenizers(folder),
        TokenCache.open(folder / "tokens"),
        stored["files"],
        valid,
        DataCounts(**stored["counts"]),
        examples.labels,
    )


def _fingerprint(recipe: Recipe, examples: Examples[Any], tokenizers: Tokenizers | None) -> str:
    """Return a name that changes with anything the stored tokens depend on."""
    data = recipe.data.model_dump(include={"train", "sources", "exclude", "on_error"})
    if recipe.data.valid is None:
        data |= {"held_out": recipe.data.held_out, "seed": recipe.training.seed}
    # Keys that are younger than some caches count only where they are set.
    tokenizer = {key: value for key, value in recipe.tokenizer.model_dump().items() if key != "lowercase" or value}
    if getattr(recipe.data, examples.further):
        data |= recipe.data.model_dump(include={examples.further})
    told = {
        "format": FORMAT,
        **data,
        **examples.settings(),
        "tokenizer": [one.fingerprint for one in tokenizers] if tokenizers else tokenizer,
        "files": [
            _file_state(path)
            for key in ("train", "exclude", examples.further)
            for path in _files(recipe, key, examples)
        ],
    }
    return hashlib.blake2b(json.dumps(told, sort_keys=True, default=str).encode(), digest_size=8).hexdigest()


def _files(recipe: Recipe, key: str, examples: Examples[Any]) -> list[str]:
    """Return the files a key of the section `data` names; a name that fits nothing is refused with the key's place."""
    named = getattr(recipe.data, key)
    by_language = {f"{key}.{language}": entry for language, entry in named.items()} if key == "back_translated" else {}
    found: list[str] = []
    for place, entry in (by_language or {key: named}).items():
        try:
            if entry:
                found += [path for file in find_files(entry, examples.languages) for path in file.paths]
        except DataError as error:
            raise DataError(f"{recipe.place(f'data.{place}', *error.keys)}: {error}") from None
    return found


def _file_state(path: str) -> list[Any]:
    if path.startswith("hf:"):
        return [path]
    state = os.stat(path)
    return [path, state.st_size, state.st_mtime_ns]


def _plain(text: str) -> str:
    """Return a text in the form in which texts are compared: NFC, blanks folded."""
    return " ".join(unicodedata.normalize("NFC", text).split())


@dataclass
class _Preparation(Generic[ExampleT]):
    """One making of the stored tokens."""

    recipe: Recipe
    examples: Examples[ExampleT]
    folder: Path
    counts: DataCounts = field(default_factory=DataCounts)
    unseen: set[str] = field(default_factory=set)
    held_texts: set[str] = field(default_factory=set)

    def run(self, tokenizers: Tokenizers | None) -> Iterator[Report]:
        data, examples = self.recipe.data, self.examples
        if data.cache is None and self.folder.parent.is_dir():
            # What a kill left half made. In a cache that runs share it may be another one's, being made.
            for left in self.folder.parent.glob(".*.part"):
                shutil.rmtree(left, ignore_errors=True)
        yield Notice("Reading the training text.")
        for entry in data.exclude:
            for example in examples.read(entry, ReadReport()):
                self.unseen.update(self._texts(example))
        held_out = self._hold_out() if data.valid is None else []
        for example in held_out:
            self.held_texts.update(self._texts(example))
        # Labels that only held-out examples have are labels, too.
        examples.look_over(lambda: chain(held_out, self._labelled(Counter())))
        if data.valid is None and len(held_out) < examples.least and next(self._labelled(Counter()), None):
            raise DataError(
                f"{self.recipe.place('data.train')}: no {examples.kind} can be held out, since {examples.why_too_few}: "
                "name others in data.valid"
            )
        with atomic_folder(self.folder) as folder:
            if tokenizers is None:
                left_out: Counter[str] = Counter()
                if next(self._labelled(left_out), None) is None:
                    excluded, held = left_out["excluded"], left_out["held_out"]
                    raise self._nothing_left(DataCounts(excluded=excluded, held_out=held, kind=examples.kind))
                yield Notice("Training two tokenizers." if examples.has_two_tokenizers else "Training the tokenizer.")
                tokenizers = examples.train_tokenizers(lambda: self._all(Counter()))
                examples.save_tokenizers(folder, tokenizers)
            yield Notice("Turning text into tokens.")
            files: dict[str, int] = {}
            TokenCache.build(
                folder / "tokens",
                self._columns(tokenizers, files),
                fingerprint=self.folder.name,
                names=(*examples.columns, "place"),
            )
            if not self.counts.used:
                raise self._nothing_left(self.counts)
            if getattr(data, examples.further) and not getattr(self.counts, examples.further):
                raise DataError(
                    f"{self.recipe.place(f'data.{examples.further}')}: none of these {examples.kind}s is left: all "
                    "stand among those to choose by or to exclude, or are too long; name others, or leave the key out"
                )
            if data.valid is None:
                lines = (json.dumps(examples.to_record(one), ensure_ascii=False) for one in held_out)
                (folder / "held_out.jsonl").write_text("".join(line + "\n" for line in lines), encoding="utf-8")
            stored = {"counts": asdict(self.counts), "files": list(files), "labels": examples.labels}
            (folder / "data.json").write_text(json.dumps(stored, indent=1, ensure_ascii=False), encoding="utf-8")

    def _nothing_left(self, counts: DataCounts) -> DataError:
        place, kind = self.recipe.place("data.train"), self.examples.kind
        return DataError(f"{place}: no {kind} is left to train on: {counts}")

    def _texts(self, example: ExampleT) -> list[str]:
        return [_plain(text) for text in self.examples.texts(example)]

    def _labelled(self, counts: Counter[str], report: ReadReport | None = None) -> Iterator[ExampleT]:
        """Yield what `data.train` has to train on: what is held out is drawn from it."""
        data = self.recipe.data
        return self._kept(self.examples.read(data.train, report or ReadReport(), data.sources), counts)

    def _all(self, counts: Counter[str], report: ReadReport | None = None) -> Iterator[ExampleT]:
        """Yield everything to train on."""
        report = report or ReadReport()
        yield from self._labelled(counts, report)
        yield from self._kept(self.examples.read_further(report), counts)

    def _kept(self, examples: Iterator[ExampleT], counts: Counter[str]) -> Iterator[ExampleT]:
        """Yield the examples that may be trained on; what is left out goes into `counts`."""
        compare = bool(self.unseen or self.held_texts)
        for example in examples:
            if compare:
                texts = self._texts(example)
                if not self.unseen.isdisjoint(texts):
                    counts["excluded"] += 1
                    continue
                if not self.held_texts.isdisjoint(texts):
                    counts["held_out"] += 1
                    continue
            yield example

    def _hold_out(self) -> list[ExampleT]:
        """Draw examples in one pass: those whose first texts have the smallest hashes, equal ones together."""
        least = self.examples.least
        wanted, seed = max(self.recipe.data.held_out, least), self.recipe.training.seed
        drawn: dict[int, list[ExampleT]] = {}
        largest: list[int] = []
        total = 0
        for example in self._labelled(Counter()):
            total += 1
            number = _draw(seed, _plain(self.examples.texts(example)[0]))
            if number in drawn:
                drawn[number].append(example)
            elif len(drawn) < wanted:
                drawn[number] = [example]
                heapq.heappush(largest, -number)
            elif number < -largest[0]:
                drawn[number] = [example]
                del drawn[-heapq.heapreplace(largest, -number)]
        held_out: list[ExampleT] = []
        for number in sorted(drawn):
            if len(held_out) >= min(wanted, max(total // 10, least)):
                break
            if len(held_out) + len(drawn[number]) + least > total:
                break
            held_out += drawn[number]
        return held_out

    def _columns(self, tokenizers: Tokenizers, files: dict[str, int]) -> Iterator[tuple[Any, ...]]:
        counts: Counter[str] = Counter()
        report = ReadReport()
        last: ExampleT | None = None
        for example, columns in self.examples.encoded(self._all(counts, report), tokenizers):
            if columns is None:
                counts["too_long"] += 1
                continue
            # Some come in several pieces.
            if example is not last:
                counts["used"] += 1
                counts[self.examples.further] += self.examples.is_further(example)
            last = example
            place = example.place
            yield *columns, [files.setdefault(str(place.path), len(files)), place.line]
        self.counts = DataCounts(
            read=report.read,
            malformed=report.malformed,
            other_sources=report.other_sources,
            by_source=dict(report.kept_by_source),
            complaint="; ".join(f"{reason} ({', '.join(places)})" for reason, places in report.examples.items()),
            kind=self.examples.kind,
            **counts,
        )


def _draw(seed: int, text: str) -> int:
    return int.from_bytes(hashlib.blake2b(f"{seed}\n{text}".encode(), digest_size=8).digest(), "big")
