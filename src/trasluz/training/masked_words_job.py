"""Pre-training an encoder: it learns a language by guessing masked words."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from trasluz.errors import RecipeError
from trasluz.objectives.masked_words import MaskedWordsObjective
from trasluz.tasks.grouping import groups_by_length
from trasluz.text.batching import make_masked_batch
from trasluz.text.encoder_tokenizer import EncoderTokenizer
from trasluz.text.masking import Masking
from trasluz.text.readers import Text
from trasluz.training.data import PreparedData
from trasluz.training.job import EncoderJob, settings_of_stream
from trasluz.training.masked_stream import MaskedStream, PackedStream
from trasluz.training.processes import ALONE, Processes
from trasluz.training.raw_text import RawTextExamples, masked_piece, pieces_of


class MaskedWordsJob(EncoderJob):
    """From plain text to an encoder that knows the language."""

    does = "guess masked words"

    @property
    def examples(self) -> RawTextExamples:
        """Texts without labels."""
        return RawTextExamples(self.recipe)

    def check(self) -> None:
        """Raise RecipeError where the model is no encoder or cannot take pieces of the length asked for."""
        recipe = self.recipe
        self.check_length(self.encoder_config())
        if self.given is not None and self.given.source_tokenizer.mask_id is None:
            raise RecipeError(f"{recipe.place('model')}: the tokenizer of {recipe.model} has no mask token")

    def build_model(self, data: PreparedData[Text]) -> nn.Module:
        """Return the encoder to go on with, or a new one."""
        return self.encoder(data, ["fill-mask"])

    def objective(self, data: PreparedData[Text]) -> MaskedWordsObjective:
        """Return the cross-entropy of the masked words."""
        return MaskedWordsObjective(self.recipe.training.label_smoothing)

    def stream(self, data: PreparedData[Text], model: Any, processes: Processes) -> MaskedStream:
        """Return the updates."""
        settings = {
            "tokenizer": data.source_tokenizer,
            "masking": self._masking(data.source_tokenizer),
            "pad_id": model.config.pad_id,
            **settings_of_stream(self.recipe, processes),
        }
        if self.recipe.data.packing:
            return PackedStream(data.cache, data.files, row_length=self.recipe.data.max_length, **settings)
        return MaskedStream(data.cache, data.files, **settings)

    def evaluator(
        self, data: PreparedData[Text], model: Any, device: torch.device, processes: Processes
    ) -> "MaskedWordsEvaluator":
        """Return what measures guesses on the validation texts, which are always masked alike."""
        tokenizer: EncoderTokenizer = data.source_tokenizer
        masking, continues = self._masking(tokenizer), tokenizer.continues
        room = self.examples.room(tokenizer)
        texts = tokenizer.encode_arrays([one.text for one in data.valid])
        pieces = [piece for ids in texts for piece in pieces_of(ids, room)]
        return MaskedWordsEvaluator(
            pieces=[
                masked_piece(tokenizer, masking, continues, piece, np.random.default_rng(number))
                for number, piece in enumerate(pieces)
            ],
            pad_id=model.config.pad_id,
            device=device,
            batch_tokens=self.recipe.training.micro_batch_tokens or self.recipe.training.batch_tokens,
            processes=processes,
        )

    def about(self, data: PreparedData[Any]) -> str:
        """Return what the model does."""
        return "guesses masked words"

    def usage(self, data: PreparedData[Any]) -> list[str]:
        """Return how it is used."""
        mask = data.source_tokenizer.tokens([data.source_tokenizer.mask_id])[0]
        return [
            'fill = trasluz.load("PATH OF THIS FOLDER")',
            f'print(fill("... {mask} ...").masks[0].candidates[0].token)',
        ]

    def _masking(self, tokenizer: EncoderTokenizer) -> Masking:
        wanted = self.recipe.masking
        assert tokenizer.mask_id is not None
        special = {tokenizer.id_of(token) for token in tokenizer.special_tokens}
        ordinary = np.array([index for index in range(tokenizer.vocab_size) if index not in special], tokenizer.dtype)
        return Masking(tokenizer.mask_id, ordinary, wanted.rate, wanted.unit, wanted.masked_share, wanted.random_share)


@dataclass(frozen=True)
class MaskedWordsEvaluator:
    """Called with a model, returns how well it guesses; the same model gives the same numbers."""

    pieces: list[tuple[Any, Any, Any]]
    """Corrupted ids, positions to guess, and what stood there."""
    pad_id: int
    device: torch.device
    batch_tokens: int
    processes: Processes = ALONE

    def __call__(self, model: Any) -> dict[str, float]:
        """Return the mean loss of a masked piece, its exponential, and the share of pieces guessed right."""
        sums = [0.0, 0.0, 0.0]
        head = model.heads["fill-mask"]
        groups = groups_by_length([len(ids) for ids, _, _ in self.pieces], self.batch_tokens)
        for rows in self.processes.own(groups):
            batch = make_masked_batch([self.pieces[row] for row in rows], pad_id=self.pad_id).to(self.device)
            logits = head(model(batch.texts)[batch.rows, batch.columns]).float()
            loss = nn.functional.cross_entropy(logits, batch.targets, reduction="sum")
            right = (logits.argmax(-1) == batch.targets).sum()
            own = float(loss), float(right), float(len(batch.targets))
            sums = [before + now for before, now in zip(sums, own, strict=True)]
        total, right_all, count = self.processes.sum(sums)
        loss_value = total / count
        return {"loss": loss_value, "perplexity": math.exp(min(loss_value, 700.0)), "accuracy": right_all / count}
