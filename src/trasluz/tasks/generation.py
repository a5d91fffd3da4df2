"""What a generator answers: the text that goes on from a prompt, how likely it is, and why it stopped."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from trasluz.inspection.attention_map import AttentionMap


@dataclass(eq=False)
class Generation:
    """One prompt continued.

    `text` is what follows the prompt, up to a stop string. `log_probability` is the sum over the tokens, the end
    included where it came, of the natural logarithm of each one's probability, which is the model's own, before
    temperature and the like. `score` is what a beam search ranked by, else the same. `ids` are the tokens of the text,
    those of a stop string and the end included. `reason` says why there are no more of them: the end of a document, a
    stop string, or no room. `alternatives` are the other samples, or the next best of a beam.
    """

    prompt: str
    text: str
    log_probability: float
    score: float
    reason: Literal["end", "stop", "length"]
    prompt_ids: tuple[int, ...]
    ids: tuple[int, ...]
    look: Callable[["Generation"], "AttentionMap"] = field(repr=False)
    alternatives: tuple["Generation", ...] = ()

    @cached_property
    def attention(self) -> "AttentionMap":
        """What each token of prompt and text looks at, by the model's default layer and head; computed when asked for.

        Raises RequestError for a text that has slid out of the model's window.
        """
        return self.look(self)

    def to_dict(self) -> dict[str, Any]:
        """Return what `trasluz generate --json` prints."""
        return {
            "prompt": self.prompt,
            **self._found(),
            "alternatives": [other._found() for other in self.alternatives],
        }

    def _found(self) -> dict[str, Any]:
        return {
            "text": self.text,
            "log_probability": self.log_probability,
            "score": self.score,
            "reason": self.reason,
            "tokens": len(self.ids),
        }

    def __str__(self) -> str:
        return self.text
