"""What the JSON files of all tokenizers have in common: objects, and names of special tokens."""

import json
from pathlib import Path
from typing import Any

from trasluz.errors import ModelError


def parse_object(path: Path, content: str | bytes, expected: str = "") -> dict[str, Any]:
    """Return the JSON object in a file's content; ModelError naming the file, and what was expected of it."""
    try:
        parsed = json.loads(content)
    except ValueError as error:
        raise ModelError(f"{path} cannot be read: {error}") from None
    if not isinstance(parsed, dict):
        raise ModelError(f"{path} holds no JSON object{expected}.")
    return parsed


def token_name(entry: Any) -> str | None:
    """Return a special token's text; `transformers` writes it bare or as an object."""
    if isinstance(entry, dict):
        entry = entry.get("content")
    return entry if isinstance(entry, str) else None
