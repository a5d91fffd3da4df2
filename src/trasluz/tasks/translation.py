"""What a translator answers: the text, how likely it is, other readings, and what every word looked at."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from trasluz.inspection.attention_map import AttentionMap


@dataclass(eq=False)
class Translation:
    """One text translated.

    `log_probability` is the sum over the target's tokens, its end included, of the natural logarithm of each one's
    probability. `score` is what the search ranked by (Wu et al. 2016, equation 14; |Y| counts the end token):

        score = log P(Y | X) / lp(Y) + coverage_penalty * sum_i log(min(sum_t weights(t, i), 1))
        lp(Y) = ((5 + |Y|) / 6)^length_penalty, or |Y|^length_penalty of a model that was read from Marian's layout

    `source_ids` and `target_ids` are the tokens as the model saw them, with language tag and end. `alternatives` are
    the next best.
    """

    source: str
    text: str
    from_language: str | None
    to_language: str | None
    log_probability: float
    score: float
    source_ids: tuple[int, ...]
    target_ids: tuple[int, ...]
    look: Callable[["Translation"], "AttentionMap"] = field(repr=False)
    alternatives: tuple["Translation", ...] = ()

    @cached_property
    def attention(self) -> "AttentionMap":
        """What each target token looked at, by the model's default layer and head; computed when first asked for.

        Raises RequestError for a model without attention over its source.
        """
        return self.look(self)

    def to_dict(self) -> dict[str, Any]:
        """Return what `trasluz translate --json` prints."""
        return {
            "source": self.source,
            "text": self.text,
            "from": self.from_language,
            "to": self.to_language,
            "log_probability": self.log_probability,
            "score": self.score,
            "alternatives": [
                {"text": other.text, "log_probability": other.log_probability, "score": other.score}
                for other in self.alternatives
            ],
        }

    def __str__(self) -> str:
        return self.text
