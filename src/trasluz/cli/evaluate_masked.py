"""The part of `trasluz evaluate` that measures how well a model guesses masked words."""

from typing import TYPE_CHECKING, Any

from trasluz.cli.streams import answer, answer_json, remark

if TYPE_CHECKING:
    from trasluz.tasks.mask_filler import MaskFiller


def evaluate_masked_words(
    filler: "MaskFiller",
    entry: Any,
    *,
    unit: str,
    rate: float | None,
    seed: int,
    on_error: str,
    as_json: bool,
    quiet: bool,
    batch_tokens: int | None,
) -> None:
    """Tell perplexity, loss and accuracy over the masked pieces of texts, and how many these are.

    By the seed 0, texts are masked as validation texts are in training, so that the figures are those of a model card.
    """
    import torch

    from trasluz.errors import DataError
    from trasluz.tasks.text_task import BATCH_TOKENS
    from trasluz.text.readers import ReadReport, read_texts
    from trasluz.training.masked_words_job import MaskedWordsEvaluator
    from trasluz.training.raw_text import masked_pieces, masking_for
    from trasluz.training.signatures import masked_words_signature

    check_masking(unit, rate)
    tokenizer = filler.tokenizer
    masking = masking_for(tokenizer, unit=unit, **({} if rate is None else {"rate": rate}))
    report = ReadReport()
    texts = [one.text for one in read_texts(entry, on_error=on_error, report=report)]
    if report.malformed:
        remark(report.summary(), quiet=quiet)
    room = filler.longest_text - tokenizer.num_added()
    pieces = masked_pieces(tokenizer, masking, texts, room, seed)
    if not pieces:
        raise DataError(f"--data: the tokenizer of {filler.name} finds nothing in these texts that could be guessed.")
    evaluator = MaskedWordsEvaluator(pieces, filler.config.pad_id, filler.device, batch_tokens or BATCH_TOKENS)
    with torch.inference_mode():
        metrics = evaluator(filler.model)
    signature = masked_words_signature(len(texts), masking, filler.longest_text, seed=seed)
    masked = sum(len(places) for _, places, _ in pieces)
    if as_json:
        answer_json({**metrics, "masked": masked, "signature": signature})
        return
    for name, value in metrics.items():
        answer(f"{name:<18} {value:.4f}  {signature}")
    answer(f"{'masked':<18} {masked}")


def check_masking(unit: str, rate: float | None) -> None:
    """Raise RequestError for what is no unit of masking, and for a rate that masks nothing or everything."""
    from trasluz.errors import RequestError, nearest
    from trasluz.text.masking import MASKING_UNITS

    if unit not in MASKING_UNITS:
        close = nearest(unit, MASKING_UNITS)
        hint = f"did you mean {close}?" if close else f"it is {', '.join(MASKING_UNITS[:-1])} or {MASKING_UNITS[-1]}."
        raise RequestError(f"--masking-unit is {unit!r}; {hint}")
    if rate is not None and not 0 < rate < 1:
        raise RequestError(f"--masking-rate is {rate:g}; it must be between 0 and 1.")
