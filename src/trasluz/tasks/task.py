"""What every task object is: a model on its device, with its tokenizer, for one verb; it can be saved."""

from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import nn

from trasluz.checkpoints.model_folder import LoadedModel, save_loaded
from trasluz.errors import RequestError


class Task:
    """A loaded model that is ready for its verb; a subclass says what it is called with, and what comes out."""

    verb: ClassVar[str]

    def __init__(
        self, loaded: LoadedModel, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32
    ) -> None:
        """Put the model on its device."""
        self.model: nn.Module = loaded.placed(device, dtype)
        self.dtype = dtype
        self.config: Any = loaded.config
        self.tokenizer: Any = loaded.source_tokenizer
        self.name = loaded.name
        self.device = torch.device(device)
        self._loaded = loaded

    @property
    def attention_place(self) -> tuple[int, int | str] | None:
        """Layer and head that are shown where nobody asks for another; None for a model without attention."""
        return self._loaded.attention_place

    def save(self, folder: str | Path, dtype: str = "fp32") -> None:
        """Write a model folder; `dtype` of the weights there is "fp32" or "fp16"."""
        if self.dtype == torch.int8:
            raise RequestError(f"{self.name} was loaded as int8, which cannot be saved; load it as fp32.")
        save_loaded(folder, self._loaded, dtype)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name})"
