"""What a target may look like: lengths, forbidden tokens, no n-gram twice; what may not be gets probability 0."""

from jaxtyping import Float, Int
from torch import Tensor

from trasluz.decoding.settings import DecodingTokens, SearchSettings

IMPOSSIBLE = float("-inf")


def constrain(
    log_probabilities: Float[Tensor, "rows vocab"],
    history: Int[Tensor, "rows target"],
    min_length: Int[Tensor, " rows"],
    max_length: Int[Tensor, " rows"],
    settings: SearchSettings,
    tokens: DecodingTokens,
) -> None:
    """Rule out, in place, every next token that `history` (the ids so far, start token left out) does not allow."""
    next_length = history.shape[1] + 1
    if tokens.forbidden_ids:
        log_probabilities[:, list(tokens.forbidden_ids)] = IMPOSSIBLE
    if settings.no_repeat_ngram:
        forbid_repeated_ngrams(log_probabilities, history, settings.no_repeat_ngram, tokens.eos_id)
    too_short = next_length < min_length
    log_probabilities[:, tokens.eos_id] = log_probabilities[:, tokens.eos_id].masked_fill(too_short, IMPOSSIBLE)
    must_end = next_length >= max_length
    if bool(must_end.any()):
        end = log_probabilities[:, tokens.eos_id].clone()
        if settings.free_forced_end:
            end = end.masked_fill(must_end, 0.0)
        log_probabilities.masked_fill_(must_end[:, None], IMPOSSIBLE)
        log_probabilities[:, tokens.eos_id] = end
    if settings.renormalize:
        log_probabilities.copy_(log_probabilities.log_softmax(-1))


def forbid_repeated_ngrams(
    log_probabilities: Float[Tensor, "rows vocab"], history: Int[Tensor, "rows target"], size: int, eos_id: int
) -> None:
    """Rule out, in place, every token that would repeat an n-gram of `size` tokens; the end stays possible."""
    prefix_length = size - 1
    if history.shape[1] < size:
        return
    end = log_probabilities[:, eos_id].clone()
    # Every n-gram so far is a prefix and a last token; those whose prefix equals the newest tokens forbid their last.
    followers = history[:, prefix_length:]
    prefixes = history.unfold(1, size, 1)[:, :, :prefix_length]
    newest = history[:, history.shape[1] - prefix_length :]
    repeated = (prefixes == newest[:, None]).all(-1)
    penalty = log_probabilities.new_zeros(()).expand(repeated.shape).masked_fill(repeated, IMPOSSIBLE)
    log_probabilities.scatter_add_(1, followers, penalty)
    log_probabilities[:, eos_id] = end
