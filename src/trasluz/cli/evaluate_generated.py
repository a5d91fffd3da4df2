"""The part of `trasluz evaluate` that measures how well a model guesses the tokens of documents."""

from typing import TYPE_CHECKING, Any

from trasluz.cli.streams import answer, answer_json, remark

if TYPE_CHECKING:
    from trasluz.tasks.generator import Generator


def evaluate_documents(
    generator: "Generator",
    entry: Any,
    *,
    document: str,
    stride: int | None,
    on_error: str,
    as_json: bool,
    quiet: bool,
    batch_tokens: int | None,
) -> None:
    """Tell perplexity, loss and number of tokens; documents are lines of plain files, or whole files."""
    from trasluz.tasks.perplexity import measure_perplexity
    from trasluz.text.readers import ReadReport, read_texts
    from trasluz.training.signatures import document_signature

    check_document(document)
    report = ReadReport()
    found = read_texts(entry, on_error=on_error, report=report, whole_files=document == "file")
    texts = [one.text for one in found]
    if report.malformed:
        remark(report.summary(), quiet=quiet)
    measured = measure_perplexity(generator, texts, stride=stride, batch_tokens=batch_tokens)
    signature = document_signature(measured.signature, document)
    metrics = {"perplexity": measured.perplexity, "loss": measured.loss}
    if as_json:
        answer_json({**metrics, "tokens": measured.tokens, "signature": signature})
        return
    for name, value in metrics.items():
        answer(f"{name:<18} {value:.4f}  {signature}")
    answer(f"{'tokens':<18} {measured.tokens}")


def check_document(document: str) -> None:
    """Raise RequestError for what is no kind of document."""
    from trasluz.errors import RequestError, nearest

    kinds = ("line", "file")
    if document not in kinds:
        close = nearest(document, kinds)
        raise RequestError(
            f"--document is {document!r}; {f'did you mean {close}?' if close else 'it is line or file.'}"
        )
