"""How a figure was counted, in one line, so that others can repeat it: model cards and `evaluate` show the same."""

from collections.abc import Iterable, Sequence

import trasluz
from trasluz.tasks.answer_spans import LONGEST_ANSWER
from trasluz.text.entities import Entity
from trasluz.text.masking import Masking
from trasluz.training.answer_metrics import rules_for


def translation_signatures(metrics: Iterable[str]) -> dict[str, str]:
    """Return sacreBLEU's signatures of those metrics that are bleu or chrf, of one direction or of all."""
    from sacrebleu.metrics.bleu import BLEU
    from sacrebleu.metrics.chrf import CHRF

    names = list(metrics)
    found: dict[str, str] = {}
    for kind, metric in (("bleu", BLEU()), ("chrf", CHRF())):
        # A metric knows its signature once it has seen how many references there are.
        metric.corpus_score(["one"], [["one"]])
        signature = str(metric.get_signature())
        found |= {name: signature for name in names if name == kind or name.startswith(f"{kind}_")}
    return found


def label_signature(num_texts: int, num_labels: int, kind: str) -> str:
    """Return how labels are scored."""
    return _signature(texts=num_texts, labels=num_labels, kind=kind)


def entity_signature(gold: Sequence[Sequence[Entity]]) -> str:
    """Return how entities are scored; `gold` holds those of each sentence."""
    return _signature(sentences=len(gold), entities=sum(map(len, gold)), matching="conlleval")


def answer_signature(gold: Sequence[Sequence[str]], rules_name: str, window: int) -> str:
    """Return how answers are scored; `gold` holds the right ones of each question."""
    version = {"squad": "-2.0" if rules_for(rules_name, gold).may_have_no_answer else "-1.1"}.get(rules_name, "")
    return _signature(
        questions=len(gold),
        unanswerable=sum(not one for one in gold),
        rules=rules_name + version,
        longest=LONGEST_ANSWER,
        window=window,
    )


def masked_words_signature(
    num_texts: int, masking: Masking, window: int, *, next_sentence: bool = False, seed: int = 0
) -> str:
    """Return how guesses of masked words are scored, in pieces of at most `window` tokens."""
    return _signature(
        texts=num_texts,
        masked=masking.unit,
        rate=masking.rate,
        next_sentence=str(next_sentence).lower(),
        mask_token=masking.masked_share,
        random_piece=masking.random_share,
        seed=seed,
        window=window,
    )


def window_signature(num_documents: int, window: int, document: str) -> str:
    """Return how guesses of next tokens are scored while training: in windows that go on over the ends of documents."""
    return _signature(documents=num_documents, window=window, windows="end-to-end", document=document)


def document_signature(counted: str, document: str) -> str:
    """Return how guesses of next tokens are scored by sliding window; `counted` is what their count says of itself."""
    return f"{counted}|{_signature(document=document)}"


def _signature(**parts: object) -> str:
    return "|".join(f"{name}:{value}" for name, value in {**parts, "trasluz": trasluz.__version__}.items())
