"""What the recipes of `trasluz init` share: what was asked for, how long texts are, and the lines they begin with."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trasluz.cli.data_words import shown

if TYPE_CHECKING:
    from trasluz.cli.sizing import Machine

# Counting more would take minutes and change no setting.
MOST_COUNTED = 1_000_000
HOW_TO_TRAIN = "To train: trasluz train recipe.yaml        One change: trasluz train recipe.yaml training.seed=2"
FROM_NOTHING = "It learns from nothing; with --model it starts from a pre-trained encoder, which is worth a lot."

Made = tuple[dict[str, Any], list[str]]
"""The parts of a recipe that data and machine decide, and the lines that say so."""


@dataclass(frozen=True)
class Asked:
    """What the command line says of a recipe; each task reads what means something to it."""

    entry: Any
    """The training text, as `data` of a recipe names it."""
    machine: "Machine"
    model: str | None
    on_error: str
    languages: str | None = None
    both_directions: bool = False
    pairs: bool = False
    label_kind: str = "one"
    document: str = "line"
    has_valid: bool = False

    @property
    def is_pretrained(self) -> bool:
        """Whether the model to start from has been trained."""
        from trasluz.models.registry import presets

        return self.model is not None and self.model not in presets()

    def heading(self, counted: str, *notes: str, more: bool) -> list[str]:
        """Return the first lines of a recipe: what was counted (`more`: at least), what else to know, and what next."""
        import trasluz

        gpu = f"a GPU of {self.machine.gpu_memory / 2**30:.0f} GiB" if self.machine.has_gpu else "no GPU"
        return [
            f"Written by trasluz {trasluz.__version__} for {shown(self.entry)}:",
            f"{'at least ' if more else ''}{counted}; {self.machine.num_cores} CPU cores, {gpu}.",
            *notes,
            HOW_TO_TRAIN,
        ]

    def notes_of_encoder(self, *notes: str) -> tuple[str, ...]:
        """Return notes, and what an encoder that learns from nothing lacks."""
        return notes if self.model else (*notes, FROM_NOTHING)

    def fitting_length(self, wanted: int) -> int:
        """Return how many tokens of a text are learnt from: `wanted`, or what a trained model reads, where fewer.

        For a recipe nothing is downloaded: of a hub id it is not asked.
        """
        from trasluz.checkpoints.model_folder import load_model
        from trasluz.tasks.loading import bundled_models, find_model

        if self.model is None or not (Path(self.model).expanduser().is_dir() or self.model in bundled_models()):
            return wanted
        loaded = load_model(find_model(self.model))
        # Translators have no such limit; that they cannot do the task is said in training.
        return min(wanted, loaded.longest_text) if hasattr(loaded.config, "longest_text") else wanted
