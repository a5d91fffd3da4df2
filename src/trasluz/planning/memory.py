"""Bytes that a training run holds.

weights        4 a parameter      fp32; bf16 products read copies of 2 bytes, made layer by layer
gradients      4
optimizer      8                  Adam's two moments (Kingma and Ba 2015)

activations, for each position of a layer of attention (Korthikanti et al. 2022, section 4.1), 2 bytes a number:
    18 * dim + 4 * feed_forward_dim            inputs of products, norms and activations, and dropout's masks
    + 5 * heads * length                       weights of the attention, where the kernel keeps them; fewer in a band
recomputed     2 * dim                         each layer's input alone, and the whole of one layer at a time; without
                                               weights of attention, too, and never more than without recomputing
output head    4 bytes a logit, of one chunk of positions at a time
"""

from dataclasses import dataclass

from trasluz.models.workload import Stack, Workload

WEIGHT_BYTES, GRADIENT_BYTES, OPTIMIZER_BYTES = 4, 4, 8
# As layers/output_loss.py makes them.
_HEAD_POSITIONS = 256
# A recurrent layer keeps states and gates of every step: about so many numbers for each of its width.
_RECURRENT_NUMBERS = 12


@dataclass(frozen=True)
class TrainingMemory:
    """Bytes of one process that has the whole model, and one batch."""

    weights: float
    gradients: float
    optimizer: float
    activations: float
    activations_with_scores: float
    """Where a kernel keeps the weights of attention."""
    activations_recomputed: float
    largest_layer: float
    """Bytes of the weights that are whole at one time where they are sliced (FSDP), in the type of the products."""

    @property
    def state(self) -> float:
        """Weights, gradients and moments."""
        return self.weights + self.gradients + self.optimizer

    def total(self, *, recompute: bool = False) -> float:
        """Return all bytes, with fused attention."""
        return self.state + (self.activations_recomputed if recompute else self.activations)


def training_memory(parameters: int, workload: Workload, source: int, target: int, sequences: int) -> TrainingMemory:
    """Return the bytes for a batch of so many sequences, each of a source and a target of so many tokens."""
    kept = scores = inputs = 0.0
    largest_kept, largest_weights = 0.0, 0
    for stack in workload.stacks:
        if not stack.num_layers:
            continue
        length = stack.added + (source if stack.text == "source" else target)
        layer = _kept(stack) * length
        kept += stack.num_layers * layer
        seen = stack.pairs(length) + (length * source if stack.cross_pairs else 0)
        scores += stack.num_layers * 5 * stack.num_heads * seen
        inputs += stack.num_layers * 2 * stack.dim * length
        largest_kept = max(largest_kept, layer)
        largest_weights = max(largest_weights, stack.weights + stack.memory_weights)
    head = 4 * workload.head_vocab_size * min(_HEAD_POSITIONS, target * sequences)
    return TrainingMemory(
        weights=float(WEIGHT_BYTES * parameters),
        gradients=float(GRADIENT_BYTES * parameters),
        optimizer=float(OPTIMIZER_BYTES * parameters),
        activations=sequences * kept + head,
        activations_with_scores=sequences * (kept + scores) + head,
        activations_recomputed=sequences * min(kept, inputs + largest_kept) + head,
        # The table of the vocabulary is one layer, too.
        largest_layer=2.0 * max(largest_weights, workload.head_dim * workload.head_vocab_size),
    )


def _kept(stack: Stack) -> int:
    """Return the bytes that one position of a layer leaves for the backward pass, weights of attention apart."""
    if not stack.num_heads:
        return 2 * _RECURRENT_NUMBERS * stack.dim
    cross = 9 * stack.dim if stack.cross_pairs else 0
    return 18 * stack.dim + 4 * stack.feed_forward_dim + cross
