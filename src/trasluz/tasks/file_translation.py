"""Translation of a text file into a text file, line for line, that goes on where it was stopped.

A window of lines is translated at once, so that batches are full of sentences of like length; their translations are
written in order and counted (`growing_file`) before the next window is read. So memory does not grow with the file, and
whatever ends the process costs at most one window. What else is in a batch changes nothing but rounding: parts of a
file, translated one by one by other processes, are in order the translation of the whole, but for what rounding decides
between hypotheses that are as good as tied.
"""

import hashlib
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, Literal

from trasluz.errors import DataError, RequestError
from trasluz.tasks.growing_file import GrowingFile, grow
from trasluz.tasks.search_defaults import SearchOptions, changed_settings
from trasluz.tasks.translation import Translation
from trasluz.tasks.translator import Translator
from trasluz.text.glossary import Glossary
from trasluz.text.lines import Fault
from trasluz.text.parts import Part

# Bytes of text in a window, for each token of a batch: some fifty batches, of which hardly any is less than full.
_BYTES_PER_TOKEN = 200
_SHOWN_EXAMPLES = 5


@dataclass(frozen=True)
class Request:
    """What is asked for; only `on_error` and the option `batch_tokens` may change when a file is gone on with."""

    to: str | None = None
    from_: str | None = None
    glossary: Glossary = field(default_factory=lambda: Glossary({}))
    markup: bool = False
    options: SearchOptions = field(default_factory=SearchOptions)
    form: Literal["text", "json"] = "text"
    on_error: str = "stop"


@dataclass
class Progress:
    """How far a part is translated; the state remembers it, so it counts the work of earlier processes too."""

    lines: int = 0
    position: int = 0
    """The byte of the input behind the last line."""
    seconds: float = 0.0
    skipped: dict[str, int] = field(default_factory=dict)
    """How many lines could not be used, by reason."""
    examples: dict[str, list[int]] = field(default_factory=dict)
    """The first line numbers of each reason."""
    digest: str = ""
    """Of all lines so far: what was read must still stand there when the work goes on."""

    def skip(self, line: int, reason: str) -> None:
        """Count a line that could not be used."""
        self.skipped[reason] = self.skipped.get(reason, 0) + 1
        shown = self.examples.setdefault(reason, [])
        if len(shown) < _SHOWN_EXAMPLES:
            shown.append(line)


def translate_file(
    translator: Translator, fingerprint: str, part: Part, output: Path, request: Request
) -> Iterator[Progress]:
    """Translate a part of a file into `output`; yield the progress at the start and after every window, one object.

    What a killed process left is gone on with, to the same bytes. `fingerprint` is that of the model's folder. Raises
    RequestError for a request that cannot be and for an output that was begun by another one, and DataError, with file
    and line, for a line that cannot be used; with on_error="skip" its line stays empty and is counted.
    """
    if request.on_error not in ("stop", "skip"):
        raise RequestError(f"`on_error` is {request.on_error!r}; it can be stop or skip.")
    translator([], request.to, request.from_, markup=request.markup, **request.options)
    with grow(output, _made_of(translator, fingerprint, part, request)) as file:
        yield from _Work(translator, part, request, file).run()


def _made_of(translator: Translator, fingerprint: str, part: Part, request: Request) -> dict[str, Any]:
    """Return all that the bytes of the output depend on, but for the text: of that, what was read is compared."""
    direction = translator.directions.choose(request.to, request.from_)
    settings, _ = changed_settings(translator.settings, request.options)
    made_of = {
        "model": f"{translator.name} {fingerprint}",
        "from": direction.from_language,
        "to": direction.to_language,
        **asdict(settings),
        "dtype": str(translator.dtype).removeprefix("torch."),
        "glossary": request.glossary.fingerprint if request.glossary else None,
        "markup": request.markup,
        "form": request.form,
        "part": f"{part.number}/{part.count}",
    }
    # Where a file is cut depends on its size; a file that is not cut may grow, or be corrected, ahead of the work.
    return made_of | {"size of the input": part.size} if part.count > 1 else made_of


class _Work:
    """The translation of one part, under way."""

    def __init__(self, translator: Translator, part: Part, request: Request, file: GrowingFile) -> None:
        self.translator = translator
        self.part = part
        self.request = request
        self.file = file
        self.progress = Progress(**file.memory) if file.memory else Progress(position=part.begin)
        self._digest = hashlib.blake2b(digest_size=16)
        self._lines_before: int | None = None

    def run(self) -> Iterator[Progress]:
        lines = self.part.lines()
        self._read_again(lines)
        yield self.progress
        if self.file.complete:
            return
        _, batch_tokens = changed_settings(self.translator.settings, self.request.options)
        for window, position in _windows(lines, self.progress.position, _BYTES_PER_TOKEN * batch_tokens):
            begun = time.monotonic()
            answers = self._answers(window)
            self._add_to_digest(window)
            self.progress.lines += len(window)
            self.progress.position = position
            self.progress.digest = self._digest.hexdigest()
            self.progress.seconds += time.monotonic() - begun
            self.file.append("".join(f"{answer}\n" for answer in answers).encode(), asdict(self.progress))
            yield self.progress
        self.file.finish()

    def _read_again(self, lines: Iterator[tuple[str | Fault, int]]) -> None:
        """Pass over the lines that are done; raises DataError where they are not those that were translated."""
        for text, _ in islice(lines, self.progress.lines):
            self._add_to_digest([text])
        changed = self.progress.lines > 0 and self._digest.hexdigest() != self.progress.digest
        if changed or (self.file.complete and next(lines, None) is not None):
            raise DataError(
                f"{self.part.path} has changed since {self.file.there} was made of it: choose another output, or "
                f"remove {self.file.there.name} to begin anew."
            )

    def _add_to_digest(self, lines: Sequence[str | Fault]) -> None:
        # A fault, which is no text, is told apart by the NUL that no text holds.
        self._digest.update(
            "".join(f"{line}\0\n" if isinstance(line, Fault) else f"{line}\n" for line in lines).encode()
        )

    def _answers(self, window: Sequence[str | Fault]) -> list[str]:
        """Return the line of the output for each line of the input."""
        checked = self._checked(window)
        for place, line in enumerate(checked):
            if isinstance(line, Fault):
                self._skip_or_stop(place, line)
        request = self.request
        good = [line for line in checked if not isinstance(line, Fault)]
        found = self.translator(
            good, request.to, request.from_, glossary=request.glossary, markup=request.markup, **request.options
        )
        results = iter(found)
        return [self._empty(line) if isinstance(line, Fault) else self._shown(next(results)) for line in checked]

    def _checked(self, window: Sequence[str | Fault]) -> list[str | Fault]:
        """Return the lines with a fault in the place of each that has too many tokens."""
        request, longest = self.request, self.translator.longest_source
        too_long = Fault(f"over {longest:,} tokens, the most that {self.translator.name} takes")
        texts = [line for line in window if not isinstance(line, Fault)]
        lengths = iter(self.translator.lengths(texts, request.to, request.from_, markup=request.markup))
        return [line if isinstance(line, Fault) or next(lengths) <= longest else too_long for line in window]

    def _skip_or_stop(self, place: int, reason: Fault) -> None:
        if self._lines_before is None:
            self._lines_before = self.part.lines_before()
        line = self._lines_before + self.progress.lines + place + 1
        if self.request.on_error == "stop":
            raise DataError(f"{self.part.path}:{line}: {reason}. Correct it, or set `on_error` to skip.")
        self.progress.skip(line, reason)

    def _shown(self, result: Translation) -> str:
        if self.request.form == "json":
            return json.dumps(result.to_dict(), ensure_ascii=False)
        return result.text.replace("\n", " ")

    def _empty(self, reason: Fault) -> str:
        return json.dumps({"text": "", "error": reason}, ensure_ascii=False) if self.request.form == "json" else ""


def _windows(
    lines: Iterator[tuple[str | Fault, int]], begin: int, most_bytes: int
) -> Iterator[tuple[list[str | Fault], int]]:
    """Yield lines in order, some `most_bytes` of them at a time, with the byte behind them."""
    window: list[str | Fault] = []
    position = begin
    for text, position in lines:
        window.append(text)
        if position - begin >= most_bytes:
            yield window, position
            window, begin = [], position
    if window:
        yield window, position
