"""Distillation: a small model learns from what a large one thinks, beside what the data say (Sanh et al. 2019).

    loss = w_soft * T^2 * KL(softmax(z_teacher / T) || softmax(z_student / T))        at every place that is judged
         + w_data * the task's own loss                                               there, too
         + w_hidden * (1 - cos(h_teacher, h_student))                                 mean over a text's tokens

T^2 keeps the size of the gradients what it is at T = 1 (Hinton et al. 2015, section 2). The weights 5 : 2 : 1 are those
that DistilBERT was published with. A text's angle counts as often as the text has places that are judged, so that the
whole stays one sum over one count. Of labels of which several hold, each is a choice of two; of numbers, the teacher's
squared distance takes the divergence's place.
"""

from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from trasluz.objectives.loss import Loss


@runtime_checkable
class JudgedByLogits(Protocol):
    """An objective whose steps can be taken one by one."""

    def logits(self, model: Any, hidden: Tensor, batch: Any) -> Float[Tensor, "places classes"]: ...
    def of_logits(self, logits: Float[Tensor, "places classes"], batch: Any) -> Loss: ...
    def places(self, batch: Any) -> Int[Tensor, "batch"]: ...


@dataclass(frozen=True)
class DistillationObjective:
    """The loss of a student beside a teacher that reads the same texts; the teacher stays as it is."""

    plain: JudgedByLogits
    teacher: Any
    temperature: float = 2.0
    soft_weight: float = 5.0
    data_weight: float = 2.0
    hidden_weight: float = 1.0

    def __call__(self, model: Any, batch: Any) -> Loss:
        """Return the loss of a batch, summed over the places that are judged."""
        hidden = model(batch.texts)
        with torch.no_grad():
            taught_hidden = self.teacher(batch.texts)
            taught = self.plain.logits(self.teacher, taught_hidden, batch)
        logits = self.plain.logits(model, hidden, batch)
        told = self.plain.of_logits(logits, batch)
        kind = getattr(self.plain, "label_kind", "one")
        total = self.data_weight * told.total + self.soft_weight * soft_loss(logits, taught, self.temperature, kind)
        if self.hidden_weight:
            angles = angle_loss(hidden, taught_hidden, batch.texts.lengths)
            total = total + self.hidden_weight * (angles * self.plain.places(batch)).sum()
        return Loss(total, told.count, told.likelihood)


def soft_loss(
    student: Float[Tensor, "places classes"],
    teacher: Float[Tensor, "places classes"],
    temperature: float,
    label_kind: str = "one",
) -> Float[Tensor, ""]:
    """Return how far the student's probabilities are from the teacher's, summed over the places."""
    student, teacher = student.float(), teacher.float()
    if label_kind == "number":
        return (student - teacher).square().sum()
    student, teacher = student / temperature, teacher / temperature
    if label_kind == "several":
        # Each label is a choice of two: the divergence is the cross-entropy less the teacher's own.
        wanted = teacher.sigmoid()
        crossed, own = (
            functional.binary_cross_entropy_with_logits(one, wanted, reduction="none") for one in (student, teacher)
        )
        return temperature**2 * (crossed - own).mean(1).sum()
    return temperature**2 * functional.kl_div(
        student.log_softmax(-1), teacher.log_softmax(-1), log_target=True, reduction="sum"
    )


def angle_loss(
    student: Float[Tensor, "batch positions dim"],
    teacher: Float[Tensor, "batch positions dim"],
    lengths: Int[Tensor, "batch"],
) -> Float[Tensor, "batch"]:
    """Return one less the cosine of both models' states, the mean over each text's tokens."""
    distance = 1.0 - functional.cosine_similarity(student.float(), teacher.float(), dim=-1)
    inside = torch.arange(distance.shape[1], device=distance.device) < lengths[:, None]
    return distance.where(inside, 0.0).sum(1) / lengths
