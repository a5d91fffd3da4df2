"""Scaled dot-product attention (Vaswani et al. 2017, section 3.2.1): softmax(Q K^T / sqrt(d)) V.

The kernel is chosen here and nowhere else. On a CPU there is a compiled kernel of ours, in training too: 1.4 to 3 times
as fast as torch's fused one, and where weights are dropped out, which torch does on weights written out, 5 to 7 times.
Where ours is not, torch's is the default, but short sentences are faster as two written-out matrix products, above all
in training, where the fused backward in bfloat16 dominates a step; yet in float32, where a causal mask is all there
is, the fused kernel, which skips what is hidden, needs two thirds of their time. Within a band, queries go in blocks as
long as the band is wide, each over the keys that it can reach.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from trasluz.devices import has_matrix_unit
from trasluz.layers.attention import masked_softmax
from trasluz.layers.dropout import dropout
from trasluz.layers.kernels.text_attention import takes_texts, text_attention
from trasluz.layers.masks import Mask

# Below this many scores a head the written-out form wins on a CPU: both sides then stay in its cache.
_SHORT = 128 * 128
# Above so many keys torch's fused kernel is faster than ours on a CPU with a matrix unit, which only torch's uses.
_SHORT_TEXT = 128


def dot_product_weights(
    query: Float[Tensor, "batch heads query head_dim"],
    key: Float[Tensor, "batch memory_heads key head_dim"],
    mask: Mask,
) -> Float[Tensor, "batch heads query key"]:
    """Return softmax(Q K^T / sqrt(head_dim)) over what the mask lets be seen."""
    scores = _in_groups(query / math.sqrt(query.shape[-1]), key) @ key.transpose(-1, -2)
    return masked_softmax(scores.reshape(*query.shape[:3], key.shape[2]), mask)


def dot_product_attention(
    query: Float[Tensor, "batch heads query head_dim"],
    key: Float[Tensor, "batch memory_heads key head_dim"],
    value: Float[Tensor, "batch memory_heads key head_dim"],
    mask: Mask,
    dropout_probability: float = 0.0,
) -> Float[Tensor, "batch heads query head_dim"]:
    """Return the context of every query; `dropout_probability` falls on the weights."""
    num_keys, exporting = key.shape[-2], torch.compiler.is_exporting()
    if mask.band is not None and not exporting and mask.band < num_keys and mask.key_lengths is None:
        return _banded(query, key, value, mask, mask.band, dropout_probability)
    return _whole(query, key, value, mask, dropout_probability)


def _banded(
    query: Tensor, key: Tensor, value: Tensor, mask: Mask, band: int, dropout_probability: float
) -> Float[Tensor, "batch heads query head_dim"]:
    num_queries, first = query.shape[-2], key.shape[-2] - query.shape[-2]
    contexts = []
    for begin in range(0, num_queries, band):
        end = min(begin + band, num_queries)
        reach = max(0, first + begin - band + 1), first + end
        near = slice(*reach)
        parts = query[:, :, begin:end], key[:, :, near], value[:, :, near]
        contexts.append(_whole(*parts, mask.of_keys(*reach), dropout_probability))
    return contexts[0] if len(contexts) == 1 else torch.cat(contexts, dim=2)


def _whole(
    query: Tensor, key: Tensor, value: Tensor, mask: Mask, dropout_probability: float
) -> Float[Tensor, "batch heads query head_dim"]:
    num_queries, num_keys = query.shape[-2], key.shape[-2]
    no_more = mask.key_lengths is None and mask.texts is None and not mask.band_hides(num_keys)
    only_causal = mask.causal and no_more and 1 < num_queries == num_keys
    fused = query.dtype == torch.float32 and only_causal and not dropout_probability
    ours_leads = num_keys <= _SHORT_TEXT or mask.texts is not None or dropout_probability or not has_matrix_unit()
    # One new query over what is remembered would be done before its keys are laid out.
    new_alone = mask.causal and num_queries == 1
    takes = mask.band is None and not new_alone and dropout_probability < 1 and takes_texts(query, key, value)
    if takes and ours_leads:
        stretches = mask.stretches(query.shape[0], num_queries, num_keys)
        first_sees = num_keys - num_queries + 1 if mask.causal else None
        return text_attention(query, key, value, *stretches, first_sees, dropout_probability)
    # A graph is drawn for sentences of every length, and engines know the written-out form by sight.
    if torch.compiler.is_exporting() or (query.is_cpu and num_queries * num_keys <= _SHORT and not fused):
        weights = dropout(dot_product_weights(query, key, mask), dropout_probability, training=True)
        return (_in_groups(weights, value) @ value).reshape(query.shape)
    if mask.sees_everything(num_queries, num_keys):
        together = _in_groups(query, key)
        return scaled_dot_product_attention(together, key, value, dropout_p=dropout_probability).reshape(query.shape)
    grouped = query.shape[1] != key.shape[1]
    if only_causal:
        return scaled_dot_product_attention(
            query, key, value, dropout_p=dropout_probability, is_causal=True, enable_gqa=grouped
        )
    if grouped and not query.is_cpu:
        # There, only the slowest kernel takes both a mask and groups.
        key, value = (one.repeat_interleave(query.shape[1] // one.shape[1], dim=1) for one in (key, value))
        grouped = False
    seen = mask.dense(num_queries, num_keys, query.device)[:, None]
    context = scaled_dot_product_attention(
        query, key, value, attn_mask=seen, dropout_p=dropout_probability, enable_gqa=grouped
    )
    # Kernels differ in what they give a query that sees nothing: zeros, always, here.
    return context.masked_fill(~seen.any(-1, keepdim=True), 0.0)


def _in_groups(x: Tensor, memory: Tensor) -> Tensor:
    """Lay the queries of all heads that share a memory one behind the other: as rows of it, it need not be copied."""
    return x if x.shape[1] == memory.shape[1] else x.reshape(x.shape[0], memory.shape[1], -1, x.shape[-1])


def split_heads(
    x: Float[Tensor, "batch positions dim"], num_heads: int
) -> Float[Tensor, "batch heads positions head_dim"]:
    """Cut the last axis into heads and bring them forward."""
    return x.unflatten(-1, (num_heads, -1)).transpose(1, 2)


def join_heads(x: Float[Tensor, "batch heads positions head_dim"]) -> Float[Tensor, "batch positions dim"]:
    """Lay the heads side by side again."""
    return x.transpose(1, 2).flatten(2)
