"""The loss of a student, against the same sums written out; and that it may be cut anywhere."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from trasluz.models.registry import build_model
from trasluz.objectives.answers import AnswerObjective
from trasluz.objectives.classification import ClassificationObjective
from trasluz.objectives.distillation import DistillationObjective, angle_loss, soft_loss
from trasluz.objectives.masked_words import MaskedWordsObjective
from trasluz.objectives.tagging import TaggingObjective
from trasluz.text.batching import NOT_COUNTED, AnswerBatch, LabelledBatch, MaskedBatch, TaggedBatch, TextBatch
from trasluz.training.labelled_examples import NO_LABEL
from trasluz.training.labelled_stream import label_tensor

SHAPE = {"preset": "bert-tiny", "model_dim": 16, "num_heads": 2, "feed_forward_dim": 24, "max_positions": 12}
LENGTHS = torch.tensor([7, 3, 5, 2])


def encoder(head: str, **fields: Any) -> Any:
    return build_model(SHAPE, vocab_size=30, heads=[head], **fields).eval()


def texts() -> TextBatch:
    ids = torch.randint(1, 30, (4, 7))
    return TextBatch(ids, LENGTHS, torch.zeros_like(ids))


def some(batch: TextBatch, rows: slice) -> TextBatch:
    return TextBatch(batch.ids[rows], batch.lengths[rows], batch.segments[rows])


def divergence(student: Tensor, teacher: Tensor, temperature: float) -> float:
    total = 0.0
    for ours, theirs in zip(student, teacher, strict=True):
        p, q = (theirs / temperature).softmax(0), (ours / temperature).softmax(0)
        total += temperature**2 * sum(float(a * (a.log() - b.log())) for a, b in zip(p, q, strict=True))
    return total


def test_the_formula() -> None:
    student, teacher = (encoder("classify", labels=["a", "b", "c"]) for _ in range(2))
    batch = LabelledBatch(texts(), torch.tensor([0, 2, 1, 1]))
    loss = DistillationObjective(ClassificationObjective(), teacher, 2.0, 5.0, 2.0, 1.0)(student, batch)
    hidden, taught = student(batch.texts), teacher(batch.texts)
    ours, theirs = student.heads["classify"](hidden), teacher.heads["classify"](taught)
    data = float(torch.nn.functional.cross_entropy(ours, batch.labels, reduction="sum").detach())
    angles = sum(
        sum(1.0 - float(torch.cosine_similarity(hidden[row, p], taught[row, p], dim=0)) for p in range(n)) / n
        for row, n in enumerate(LENGTHS.tolist())
    )
    assert float(loss.total) == pytest.approx(2 * data + 5 * divergence(ours, theirs, 2.0) + angles, rel=1e-5)
    assert loss.count == 4 and float(loss.likelihood) == pytest.approx(data, rel=1e-6)
    loss.total.backward()
    assert all(parameter.grad is None for parameter in teacher.parameters())
    assert student.word_embedding.weight.grad.abs().sum() > 0


@pytest.mark.parametrize(
    ("kind", "stored"), [("one", [[2], [NO_LABEL], [0], [NO_LABEL]]), ("several", [[0, 2], [NO_LABEL], [], [NO_LABEL]])]
)
def test_a_text_without_a_label_counts_for_the_teacher_alone(kind: Any, stored: list[list[int]]) -> None:
    student, teacher = (encoder("classify", labels=["a", "b", "c"], label_kind=kind) for _ in range(2))
    read = texts()
    batch = LabelledBatch(read, label_tensor(stored, kind, 3))
    known = LabelledBatch(
        TextBatch(read.ids[::2], read.lengths[::2], read.segments[::2]), label_tensor(stored[::2], kind, 3)
    )
    plain = ClassificationObjective(kind, label_smoothing=0.1 if kind == "one" else 0.0)
    told = plain(student, batch)
    assert float(told.total) == pytest.approx(float(plain(student, known).total), rel=1e-5) and told.count == 4
    taught = DistillationObjective(plain, teacher, 2.0, 5.0, 0.0, 1.0)(student, batch)
    labelled = LabelledBatch(read, label_tensor([[0], [1], [2], [1]], kind, 3))
    torch.testing.assert_close(
        taught.total, DistillationObjective(plain, teacher, 2.0, 5.0, 0.0, 1.0)(student, labelled).total
    )
    taught.total.backward()
    assert student.word_embedding.weight.grad.isfinite().all()


def test_a_number_that_nobody_told_counts_nothing() -> None:
    labels = label_tensor([[int(np.float32(1.5).view(np.uint32))], [NO_LABEL]], "number", 1)
    scores = torch.tensor([[1.0], [7.0]], requires_grad=True)
    total = ClassificationObjective("number").loss(scores, labels)
    total.backward()
    assert float(total) == pytest.approx(0.25) and scores.grad.flatten().tolist() == [-1.0, 0.0]


def test_one_that_is_its_own_teacher_learns_from_the_data_alone() -> None:
    student = encoder("classify", labels=["a", "b"])
    batch = LabelledBatch(texts(), torch.tensor([0, 1, 1, 0]))
    plain = ClassificationObjective()
    loss = DistillationObjective(plain, student, 2.0, 5.0, 2.0, 1.0)(student, batch)
    assert float(loss.total) == pytest.approx(2 * float(plain(student, batch).total), rel=1e-5)


def test_two_choices_and_numbers() -> None:
    student, teacher = torch.randn(3, 2), torch.randn(3, 2)
    # Yes or no: a choice of two, of which one has the score 0.
    ours, theirs = (torch.stack((scores.flatten(), torch.zeros(6)), 1) for scores in (student, teacher))
    found = float(soft_loss(student, teacher, 3.0, "several"))
    assert found == pytest.approx(divergence(ours, theirs, 3.0) / 2, rel=1e-4)
    assert float(soft_loss(student[:, :1], teacher[:, :1], 3.0, "number")) == pytest.approx(
        float(((student - teacher)[:, 0] ** 2).sum()), rel=1e-6
    )


def test_angles_do_not_see_padding() -> None:
    ours, theirs = torch.randn(4, 7, 5), torch.randn(4, 7, 5)
    before = angle_loss(ours, theirs, LENGTHS)
    theirs[1, 3:] = 9.0
    assert torch.equal(angle_loss(ours, theirs, LENGTHS), before)


def masked_batch(rows: slice | None = None) -> Any:
    torch.manual_seed(5)
    whole = texts()
    places = torch.tensor([[0, 1], [0, 4], [0, 5], [1, 1], [2, 2], [2, 3], [3, 0]])
    targets = torch.randint(1, 30, (7,))
    if rows is None:
        return MaskedBatch(whole, places[:, 0], places[:, 1], targets)
    inside = (places[:, 0] >= rows.start) & (places[:, 0] < rows.stop)
    return MaskedBatch(some(whole, rows), places[inside, 0] - rows.start, places[inside, 1], targets[inside])


def tagged_batch(rows: slice | None = None) -> Any:
    torch.manual_seed(6)
    whole = texts()
    labels = torch.full((4, 7), NOT_COUNTED)
    labels[0, :4], labels[1, 1], labels[2, 2:4], labels[3, 0] = torch.tensor([1, 0, 2, 1]), 2, 1, 0
    return TaggedBatch(whole, labels) if rows is None else TaggedBatch(some(whole, rows), labels[rows])


def answer_batch(rows: slice | None = None) -> Any:
    torch.manual_seed(7)
    whole = texts()
    spans = torch.tensor([[2, 5], [0, 0], [3, 3], [1, 1]])
    allowed = torch.arange(7) < LENGTHS[:, None]
    rows = rows or slice(None)
    return AnswerBatch(some(whole, rows), spans[rows], allowed[rows])


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_answers_step_by_step_are_those_in_one(smoothing: float) -> None:
    student, batch = encoder("answer"), answer_batch()
    plain = AnswerObjective(smoothing)
    whole = plain(student, batch)
    stepwise = plain.of_logits(plain.logits(student, student(batch.texts), batch), batch)
    assert float(stepwise.total) / stepwise.count == pytest.approx(float(whole.total) / whole.count, rel=1e-5)


@pytest.mark.parametrize(
    ("head", "plain", "make", "fields"),
    [
        ("fill-mask", MaskedWordsObjective(), masked_batch, {}),
        ("tag", TaggingObjective(), tagged_batch, {"labels": ["O", "B-a", "I-a"]}),
        ("answer", AnswerObjective(), answer_batch, {}),
    ],
)
def test_a_batch_in_pieces_is_the_batch_in_one(head: str, plain: Any, make: Any, fields: dict[str, Any]) -> None:
    student, teacher = (encoder(head, **fields) for _ in range(2))
    objective = DistillationObjective(plain, teacher)
    whole = objective(student, make())
    pieces = [objective(student, make(rows)) for rows in (slice(0, 1), slice(1, 4))]
    assert sum(piece.count for piece in pieces) == whole.count
    assert sum(float(piece.total) for piece in pieces) == pytest.approx(float(whole.total), rel=1e-5)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_masked_words_step_by_step_are_those_in_chunks(smoothing: float) -> None:
    student, batch = encoder("fill-mask"), masked_batch()
    plain = MaskedWordsObjective(smoothing)
    chunked = plain(student, batch)
    stepwise = plain.of_logits(plain.logits(student, student(batch.texts), batch), batch)
    assert float(chunked.total) == pytest.approx(float(stepwise.total), rel=1e-5)
    assert float(chunked.likelihood) == pytest.approx(float(stepwise.likelihood), rel=1e-5)
    assert plain.places(batch).tolist() == [3, 1, 2, 1]
