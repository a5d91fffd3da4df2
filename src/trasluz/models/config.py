"""What every model's config shares: frozen, checked, no unknown key."""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, PositiveInt, model_validator

Probability = Annotated[float, Field(ge=0.0, lt=1.0, strict=False)]


class ModelConfig(BaseModel):
    """The shape of a model; one subclass an architecture, in that architecture's file."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class TextConfig(ModelConfig):
    """What a model that reads one text needs to know of its tokens."""

    vocab_size: PositiveInt
    pad_id: NonNegativeInt = 0

    @property
    def task(self) -> str:
        """What a model of this config does where its folder does not say."""
        raise NotImplementedError(type(self))

    @model_validator(mode="after")
    def _padding_exists(self) -> "TextConfig":
        if self.pad_id >= self.vocab_size:
            raise ValueError(f"`pad_id` must be below `vocab_size` ({self.vocab_size}), but is {self.pad_id}")
        return self

    @property
    def vocab_sizes(self) -> tuple[int, int]:
        """Sizes of the vocabularies of what is read and what is written."""
        return self.vocab_size, self.vocab_size


class CausalConfig(TextConfig):
    """What a model that continues texts needs to know of them."""

    eos_id: NonNegativeInt | None = Field(None, description="the token between documents; None: there is none")
    max_positions: PositiveInt = 1024

    @property
    def task(self) -> str:
        """What a model of this config does where its folder does not say."""
        return "generate"

    @property
    def longest_text(self) -> int:
        """Most tokens that can be read."""
        return self.max_positions

    @model_validator(mode="after")
    def _end_exists(self) -> "CausalConfig":
        if self.eos_id is not None and self.eos_id >= self.vocab_size:
            raise ValueError(f"`eos_id` must be below `vocab_size` ({self.vocab_size}), but is {self.eos_id}")
        return self


class SequenceToSequenceConfig(ModelConfig):
    """What a model that reads one text and writes another needs to know of its tokens."""

    source_vocab_size: PositiveInt
    target_vocab_size: PositiveInt
    pad_id: NonNegativeInt = 0
    start_id: NonNegativeInt = Field(1, description="the token a target begins with, not part of its text")
    eos_id: NonNegativeInt = 2

    @property
    def task(self) -> str:
        """What a model of this config does where its folder does not say."""
        return "translate"

    @property
    def vocab_sizes(self) -> tuple[int, int]:
        """Sizes of the vocabularies of what is read and what is written."""
        return self.source_vocab_size, self.target_vocab_size

    @model_validator(mode="after")
    def _special_tokens_exist(self) -> "SequenceToSequenceConfig":
        for name in ("pad_id", "start_id", "eos_id"):
            if getattr(self, name) >= self.target_vocab_size:
                raise ValueError(
                    f"`{name}` must be below `target_vocab_size` ({self.target_vocab_size}), "
                    f"but is {getattr(self, name)}"
                )
        return self


class WordMatricesConfig(SequenceToSequenceConfig):
    """What a recurrent translator needs to know of its two embeddings and its output."""

    share_embeddings: bool = Field(False, description="source, target and output share one matrix")

    @model_validator(mode="after")
    def _vocabularies_fit(self) -> "WordMatricesConfig":
        if self.share_embeddings:
            must_be_equal_to_share("share_embeddings", self)
        return self


def must_divide(divisor_name: str, divisor: int, name: str, value: int) -> None:
    """Raise ValueError unless `divisor` divides `value`."""
    if value % divisor:
        raise ValueError(f"`{name}` ({value}) must be a multiple of `{divisor_name}`, but that is {divisor}")


def must_be_equal_to_share(share: str, config: SequenceToSequenceConfig) -> None:
    """Raise ValueError when one matrix is to serve two vocabularies of unequal size."""
    if config.source_vocab_size != config.target_vocab_size:
        raise ValueError(
            f"`{share}` shares one matrix between source and target, which needs equal vocabularies, but "
            f"`source_vocab_size` is {config.source_vocab_size} and `target_vocab_size` {config.target_vocab_size}"
        )


Overrides = dict[str, Any]
"""What a preset or a recipe says of a config: some of its fields."""
