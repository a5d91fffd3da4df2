"""The small files of a model folder: JSON and text, read with an error that names the file, written atomically."""

import json
from pathlib import Path
from typing import Any

from trasluz.errors import ModelError
from trasluz.files import atomic_write


def read_json(path: Path) -> dict[str, Any]:
    """Return the object in a JSON file of a model folder; ModelError, naming it, where there is none."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ModelError(f"{path.parent} is no model folder: {path.name} is missing.") from None
    except (OSError, ValueError) as error:
        raise ModelError(f"{path} cannot be read: {error}.") from None
    if not isinstance(content, dict):
        raise ModelError(f"{path} holds no JSON object, but a model folder's {path.name} does.")
    return content


def read_text(path: Path) -> str | None:
    """Return what stands in a text file, None where there is no such file; ModelError where it cannot be read."""
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise ModelError(f"{path} cannot be read: {error}.") from None


def write_json(path: Path, content: Any) -> None:
    """Write a JSON file atomically."""
    write_text(path, json.dumps(content, ensure_ascii=False, indent=2) + "\n")


def write_text(path: Path, content: str) -> None:
    """Write a text file atomically."""
    with atomic_write(path, "w") as file:
        file.write(content)
