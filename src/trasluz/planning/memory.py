"""Bytes that a training run holds.

weights        4 a parameter      fp32
gradients      4                  of those that are learnt: frozen ones have none, nor moments
optimizer      8                  Adam's two moments (Kingma and Ba 2015)
               4                  Muon's one, of the matrices in hidden layers (training/muon.py); Adam's of the rest
copies         2                  in bf16, of the matrices of layers that are learnt: autocast makes them, and the
                                  backward pass reads them; recomputed: of one layer; the output head's as well;
                                  recurrent layers have none, and stay in fp32 (layers/recurrent.py)

whole where they are sliced (FSDP), beside the slices: training/sharing.py gathers fp32 weights, layer by layer
    2 * (4 + 4)                   a number of the largest layer: of the one at work and its neighbour, weights that are
                                  gathered, and gradients that are not yet cut
    4 + 4                         a parameter outside of layers, such as embeddings: one group, whole from the forward
                                  pass's begin to the backward pass's end

activations, for each position of a layer of attention (Korthikanti et al. 2022, section 4.1), 2 bytes a number:
    18 * dim + 4 * feed_forward_dim            inputs of products, norms and activations, and dropout's masks
    + 5 * heads * length                       weights of the attention, where the kernel keeps them; fewer in a band
recomputed     2 * dim                         each layer's input alone, and the whole of one layer at a time; without
                                               weights of attention, too, and never more than without recomputing
output head    4 bytes a logit, of one chunk of positions at a time

Frozen layers lie below the others, and keep nothing for a backward pass. All but the masks are numbers in the type of
the products: in fp32, of 4 bytes in place of 2, they are counted double.

teacher        4 a parameter      it learns nothing: no gradients, no moments
               one layer          whole, of what it keeps for a position
               16 * vocabulary    for each judged position: logits and log-probabilities of both, which are not chunked
"""

from collections.abc import Iterator
from dataclasses import dataclass

from trasluz.models.workload import Stack, Workload

WEIGHT_BYTES, GRADIENT_BYTES, OPTIMIZER_BYTES, MUON_BYTES = 4, 4, 8, 4
# As layers/output_loss.py makes them.
_HEAD_POSITIONS = 256
# A recurrent layer keeps states and gates of every step: about so many numbers for each of its width.
_RECURRENT_NUMBERS = 12


@dataclass(frozen=True)
class TrainingMemory:
    """Bytes of one process that has the whole model, and one batch of so many sequences."""

    sequences: int
    weights: float
    gradients: float
    optimizer: float
    activations: float
    activations_with_scores: float
    """Where a kernel keeps the weights of attention."""
    activations_recomputed: float
    copies: float
    """Of weights, in the type of the products."""
    copies_recomputed: float
    gathered: float
    """Weights and gradients that are whole at one time where they are sliced (FSDP)."""
    teacher: float = 0.0
    """What a model that is learnt from takes; it is whole everywhere."""

    @property
    def state(self) -> float:
        """Weights, gradients and moments."""
        return self.weights + self.gradients + self.optimizer

    def passing(self, *, recompute: bool = False) -> float:
        """Return the bytes of a batch on its way, with fused attention, and of who teaches it."""
        own = self.activations_recomputed + self.copies_recomputed if recompute else self.activations + self.copies
        return self.teacher + own

    def total(self, *, recompute: bool = False) -> float:
        """Return all bytes, with fused attention."""
        return self.state + self.passing(recompute=recompute)


def training_memory(
    parameters: int,
    workload: Workload,
    source: int,
    target: int,
    sequences: int,
    *,
    number_bytes: int = 2,
    muon: bool = False,
    frozen: int = 0,
    frozen_layers: int = 0,
) -> TrainingMemory:
    """Return the bytes for a batch of so many sequences, each of a source and a target of so many tokens.

    Products are of numbers of `number_bytes`. Of the parameters so many are frozen, in the lowest layers and below.
    """
    kept = scores = inputs = 0.0
    largest_kept, largest_weights, largest_learnt = 0.0, 0, 0
    in_layers = in_frozen_layers = in_copied_layers = by_muon = 0
    for stack, length in _lengths(workload, source, target):
        learnt_layers = max(0, stack.num_layers - frozen_layers)
        layer = _kept(stack, number_bytes) * length
        kept += learnt_layers * layer
        seen = stack.pairs(length) + (length * source if stack.cross_pairs else 0)
        scores += learnt_layers * 5 * stack.num_heads * seen
        inputs += learnt_layers * 2 * stack.dim * length
        weights = stack.weights + stack.memory_weights
        in_layers += stack.num_layers * weights
        in_frozen_layers += (stack.num_layers - learnt_layers) * weights
        in_copied_layers += learnt_layers * weights if stack.num_heads else 0
        largest_weights = max(largest_weights, weights)
        if learnt_layers:
            largest_kept, largest_learnt = max(largest_kept, layer), max(largest_learnt, weights)
        # Most of a recurrent translator's matrices are no linear layer's.
        by_muon += learnt_layers * weights if muon and stack.num_heads else 0
    learnt, outside = parameters - frozen, parameters - in_layers
    learnt_outside = outside - (frozen - in_frozen_layers)
    in_head = workload.head_dim * workload.head_vocab_size
    copied = number_bytes if number_bytes < WEIGHT_BYTES else 0
    head = 4 * workload.head_vocab_size * min(_HEAD_POSITIONS, target * sequences)
    size = sequences * number_bytes / 2
    return TrainingMemory(
        sequences=sequences,
        weights=float(WEIGHT_BYTES * parameters),
        gradients=float(GRADIENT_BYTES * learnt),
        optimizer=float(OPTIMIZER_BYTES * (learnt - by_muon) + MUON_BYTES * by_muon),
        activations=size * kept + head,
        activations_with_scores=size * (kept + scores) + head,
        activations_recomputed=size * min(kept, inputs + largest_kept) + head,
        copies=float(copied * (in_copied_layers + in_head)),
        copies_recomputed=float(copied * (largest_learnt + in_head)),
        gathered=float(
            WEIGHT_BYTES * (outside + 2 * largest_weights) + GRADIENT_BYTES * (learnt_outside + 2 * largest_learnt)
        ),
    )


def teacher_bytes(
    parameters: int, workload: Workload, source: int, target: int, sequences: int, *, number_bytes: int = 2
) -> float:
    """Return what a teacher takes beside the model that learns from it (objectives/distillation.py)."""
    lengths = _lengths(workload, source, target)
    layer = max((_kept(stack, number_bytes) * length for stack, length in lengths), default=0)
    logits = 16 * workload.head_vocab_size * workload.judged_share * target
    return WEIGHT_BYTES * parameters + sequences * (layer * number_bytes / 2 + logits)


def _lengths(workload: Workload, source: int, target: int) -> Iterator[tuple[Stack, int]]:
    """Yield each stack that has layers, and how many positions it works on."""
    for stack in workload.stacks:
        if stack.num_layers:
            yield stack, stack.added + (source if stack.text == "source" else target)


def _kept(stack: Stack, number_bytes: int) -> int:
    """Return what one position of a layer leaves for the backward pass, weights of attention apart.

    In bytes where numbers have two; a recurrent layer's have four whatever the others have.
    """
    if not stack.num_heads:
        return 2 * _RECURRENT_NUMBERS * stack.dim * WEIGHT_BYTES // number_bytes
    cross = 9 * stack.dim if stack.cross_pairs else 0
    return 18 * stack.dim + 4 * stack.feed_forward_dim + cross
