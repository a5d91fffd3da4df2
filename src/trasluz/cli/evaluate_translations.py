"""The part of `trasluz evaluate` that scores translations against references."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from trasluz.cli.data_words import guess_languages
from trasluz.cli.streams import answer, answer_json, progress, remark, write_lines

if TYPE_CHECKING:
    from trasluz.tasks.directions import Direction
    from trasluz.tasks.translator import Translator
    from trasluz.text.readers import Pair


def evaluate_translations(
    translator: "Translator",
    entry: Any,
    *,
    from_: str | None,
    to: str | None,
    beam: int | None,
    length_penalty: float | None,
    lowercase: bool,
    on_error: str,
    out: Path | None,
    as_json: bool,
    quiet: bool,
    batch_tokens: int | None,
) -> None:
    """Score every direction of a translator, or the one that is asked for, by sacreBLEU and chrF."""
    from trasluz.errors import RequestError

    one_way = to is not None or from_ is not None
    directions = [translator.directions.choose(to, from_)] if one_way else list(translator.directions.all)
    if out is not None and len(directions) > 1:
        raise RequestError(
            f"--out takes the translations of one direction, and {translator.name} has two: say which with --to."
        )
    search: dict[str, Any] = {"beam": beam, "length_penalty": length_penalty, "batch_tokens": batch_tokens}
    # Refuses what the search does not take, before anything is read.
    translator([], directions[0].to_language, directions[0].from_language, **search)
    data = _References(translator, entry, on_error, quiet=quiet)
    for direction in directions:
        source, target = data.languages(direction)
        pairs = data.pairs(direction)
        way = f"{source}-{target}"
        found = translator.stream(
            [pair.source for pair in pairs], direction.to_language, direction.from_language, **search
        )
        texts = [one.text for one in progress(found, len(pairs), way, quiet=quiet)]
        report = {"from": source, "to": target, "sentences": len(texts)}
        report |= scores(texts, [pair.target for pair in pairs], lowercase=lowercase)
        if out is not None:
            write_lines(out, texts)
        if as_json:
            answer_json(report)
            continue
        for name in ("bleu", "chrf"):
            answer(f"{way}  {name:<5} {report[name]:6.2f}  {report[f'{name}_signature']}")


class _References:
    """The pairs of the data, for every direction; both ways between two languages go by the same ones, read once."""

    def __init__(self, translator: "Translator", entry: Any, on_error: str, *, quiet: bool) -> None:
        self._translator = translator
        self._entry = entry
        self._on_error = on_error
        self._quiet = quiet
        self._read: dict[tuple[str, str], list[Pair]] = {}

    def languages(self, direction: "Direction") -> tuple[str, str]:
        """Return the languages of the two sides: the model's, or where it does not say them, those the data tell."""
        if direction.from_language is not None and direction.to_language is not None:
            return direction.from_language, direction.to_language
        first, second = guess_languages(self._entry, "name both in braces, as in test.{en,es}, or in a header")
        return (second, first) if direction.to_language == first else (first, second)

    def pairs(self, direction: "Direction") -> "list[Pair]":
        """Return the pairs of a direction whose source the model can read.

        Others are refused before any work, or left out and told.
        """
        source, target = self.languages(direction)
        # The model's first direction between the two, in whose order columns without names are read.
        both = {source, target}
        known = (one for one in self._translator.directions.all if {one.from_language, one.to_language} == both)
        languages = self.languages(next(known, direction))
        if languages not in self._read:
            self._read[languages] = self._read_all(languages)
        found = self._read[languages]
        if source != languages[0]:
            found = [pair._replace(source=pair.target, target=pair.source) for pair in found]
        return self._that_fit(direction, found)

    def _read_all(self, languages: tuple[str, str]) -> "list[Pair]":
        from trasluz.text.readers import ReadReport, read_pairs

        report = ReadReport()
        pairs = list(read_pairs(self._entry, languages, on_error=self._on_error, report=report))
        if report.malformed:
            remark(report.summary(), quiet=self._quiet)
        return pairs

    def _that_fit(self, direction: "Direction", pairs: "list[Pair]") -> "list[Pair]":
        from trasluz.errors import DataError

        translator, most = self._translator, self._translator.longest_source
        lengths = translator.lengths([pair.source for pair in pairs], direction.to_language, direction.from_language)
        too_long = [(pair.place, length) for pair, length in zip(pairs, lengths, strict=True) if length > most]
        if not too_long:
            return pairs
        place, length = too_long[0]
        if self._on_error == "stop":
            raise DataError(
                f"{place}: the text has {length:,} tokens, but {translator.name} takes at most {most:,}: cut it into "
                "sentences, or leave such texts out with --on-error skip."
            )
        remark(f"Left out: {len(too_long):,} texts of more than {most:,} tokens, at {place}.", quiet=self._quiet)
        return [pair for pair, length in zip(pairs, lengths, strict=True) if length <= most]


def scores(texts: list[str], references: list[str], *, lowercase: bool) -> dict[str, Any]:
    """Return BLEU (Papineni et al. 2002) and chrF (Popović 2015) as sacreBLEU (Post 2018) computes them."""
    from sacrebleu.metrics.bleu import BLEU
    from sacrebleu.metrics.chrf import CHRF

    found: dict[str, Any] = {}
    for name, metric in (("bleu", BLEU(lowercase=lowercase)), ("chrf", CHRF(lowercase=lowercase))):
        found[name] = round(float(metric.corpus_score(texts, [references]).score), 4)
        found[f"{name}_signature"] = str(metric.get_signature())
    return found
