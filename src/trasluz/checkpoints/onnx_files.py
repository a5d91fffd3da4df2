"""What a folder of ONNX files is made of, whatever the model is for."""

from dataclasses import dataclass
from typing import Any

from trasluz.checkpoints.onnx_graph import Graph


@dataclass(frozen=True)
class OnnxFiles:
    """The graphs by the names of their files, what config.json says, and what the README says of both."""

    graphs: dict[str, Graph]
    config: dict[str, Any]
    about: str
