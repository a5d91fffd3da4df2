"""A model folder, in Hugging Face's layout: everything a translator needs, written and read.

    config.json             the model's shape; what only trasluz knows stands under the one key `trasluz`
    model.safetensors       weights, fp32 or fp16
    generation_config.json  how to search
    tokenizer.json, ...     or source.spm, target.spm, vocab.json of Marian's models
    README.md, recipe.yaml  the model card, and how it was trained

Where Hugging Face has the architecture, config and keys are theirs, and `transformers` loads the folder. Any other
model keeps our names, under `model_type: trasluz-...`.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, ValidationError, model_validator
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from trasluz.checkpoints.model_card import plain_card
from trasluz.checkpoints.weights import WEIGHTS, model_tensors, read_weights, write_weights
from trasluz.errors import ModelError, nearest
from trasluz.files import atomic_write
from trasluz.layers.attention import Attention
from trasluz.models.hub_format import format_for, hub_formats
from trasluz.models.key_map import KeyMap, Row
from trasluz.models.registry import architectures, find_architecture, make_config, model_of
from trasluz.text.marian_tokenizer import MarianTokenizer
from trasluz.text.tokenizer import Tokenizer

CONFIG = "config.json"
GENERATION = "generation_config.json"
CARD = "README.md"
RECIPE = "recipe.yaml"

_OURS = "trasluz"
_OUR_TYPE = "trasluz-"
TARGET_PREFIX = "target_"
# What stands in a config.json of ours beside the fields of the config.
_BESIDE_FIELDS = ("model_type", "architectures", "dtype", "transformers_version", _OURS)
# What of a generation_config.json a search of ours can follow.
_GENERATION_NAMES = (
    "num_beams",
    "length_penalty",
    "max_length",
    "max_new_tokens",
    "no_repeat_ngram_size",
    "bad_words_ids",
    "forced_eos_token_id",
    "renormalize_logits",
)
_DTYPES = {"fp32": torch.float32, "fp16": torch.float16}

AttentionPlace = tuple[int, int | str]
"""Layer and head to show where nobody asks for another; the head may be "mean"."""


class _Place(BaseModel):
    """Where attention is looked at."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    layer: NonNegativeInt
    head: NonNegativeInt | Literal["mean"]


class _Notes(BaseModel):
    """What stands under the key `trasluz` of a config.json."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    task: str = "translate"
    languages: tuple[str, ...] = ()
    both_directions: bool = False
    attention: _Place | None = None
    tokenizer: Literal["shared", "separate", "marian"] | None = Field(None, description="None: as the files tell")

    @model_validator(mode="after")
    def _two_to_turn_round(self) -> "_Notes":
        if self.both_directions and len(self.languages) != 2:
            raise ValueError(f"`both_directions` needs two `languages`, but there are {len(self.languages)}")
        return self


@dataclass
class LoadedModel:
    """What a model folder holds."""

    model: nn.Module
    config: Any
    source_tokenizer: Any
    target_tokenizer: Any
    task: str = "translate"
    languages: tuple[str, ...] = ()
    both_directions: bool = False
    attention_default: AttentionPlace | None = None
    generation: dict[str, Any] = field(default_factory=dict)
    name: str = ""
    card: str = ""
    recipe_yaml: str | None = None

    @property
    def attention_place(self) -> tuple[int, int | str] | None:
        """Layer and head whose attention is shown; None for a model without attention over its source.

        A model that does not name them shows the mean over the heads of its last layer but one, which Garg et al. 2019
        ("Jointly Learning to Align and Translate with Transformer Models") found to align best. Raises ModelError for
        names that the model does not have.
        """
        model: Any = self.model
        stack: list[Attention] = model.attentions().get("cross", [])
        if not stack:
            return None
        if self.attention_default is None:
            layer = max(0, len(stack) - 2)
            return layer, "mean" if stack[layer].num_heads > 1 else 0
        layer, head = self.attention_default
        if not 0 <= layer < len(stack) or (head != "mean" and not 0 <= int(head) < stack[layer].num_heads):
            raise ModelError(
                f"config.json of {self.name} shows attention layer {layer}, head {head}, but the model has "
                f"{len(stack)} layers of {stack[0].num_heads} heads."
            )
        return layer, head


def language_tag(language: str) -> str:
    """Return the token that begins a source text and says which language to translate it to."""
    return f"<2{language}>"


def language_tags(loaded: LoadedModel) -> dict[str, str]:
    """Return, for each language a model can be told to translate to, the token that tells it; most models need none."""
    codes: Sequence[str] = getattr(loaded.source_tokenizer, "language_codes", ())
    if codes:
        return {code.removeprefix(">>").removesuffix("<<"): code for code in codes}
    return {language: language_tag(language) for language in reversed(loaded.languages) if loaded.both_directions}


def max_target_tokens(generation: Mapping[str, Any]) -> int | None:
    """Return how many tokens generation_config.json lets a target have, its end included; None where it says nothing.

    Hugging Face's `max_length` counts the token a target begins with, too.
    """
    if generation.get("max_new_tokens"):
        return int(generation["max_new_tokens"])
    return int(generation["max_length"]) - 1 if generation.get("max_length") else None


def save_tokenizers(folder: Path, source: Any, target: Any) -> None:
    """Write the tokenizer files of both sides; two that are one are written once."""
    source.save(folder)
    if target is not source:
        target.save(folder, prefix=TARGET_PREFIX)


def save_model(
    folder: str | Path,
    model: nn.Module,
    source_tokenizer: Any,
    target_tokenizer: Any,
    *,
    task: str = "translate",
    languages: Sequence[str] = (),
    both_directions: bool = False,
    card: str = "",
    recipe_yaml: str | None = None,
    generation: Mapping[str, Any] | None = None,
    attention_default: AttentionPlace | None = None,
    dtype: str = "fp32",
) -> None:
    """Write a model folder, each file atomically and config.json last; other files there are left alone.

    `generation` has the names of generation_config.json (num_beams, length_penalty, ...), and `normalization`: "gnmt",
    ours where it is not given, or "power", Hugging Face's. `dtype` is that of the stored weights: "fp32" or "fp16".
    """
    if dtype not in _DTYPES:
        raise ModelError(f"weights cannot be stored as {dtype!r}; say {' or '.join(_DTYPES)}.")
    folder = Path(folder)
    config: Any = model.config
    is_shared = target_tokenizer is source_tokenizer
    notes = _Notes(
        task=task,
        languages=tuple(languages),
        both_directions=both_directions,
        attention=None if attention_default is None else _place(*attention_default),
        tokenizer="marian" if isinstance(source_tokenizer, MarianTokenizer) else "shared" if is_shared else "separate",
    )
    tensors = model_tensors(model)
    hub = format_for(config)
    if hub is None:
        model_type = next(name for name, known in architectures().items() if type(config) is known.config_class)
        written = {"model_type": _OUR_TYPE + model_type, "architectures": [type(model).__name__], **config.model_dump()}
    else:
        hub_format, in_their_words = hub
        written = {"model_type": hub_format.model_type, "architectures": [hub_format.class_name], **in_their_words}
        tensors = hub_format.key_map(config).write(tensors)
    written |= {"dtype": str(_DTYPES[dtype]).removeprefix("torch."), _OURS: notes.model_dump(exclude_none=True)}
    write_weights(folder / WEIGHTS, tensors, _DTYPES[dtype])
    save_tokenizers(folder, source_tokenizer, target_tokenizer)
    _write_json(folder / GENERATION, _generation(config, target_tokenizer, generation or {}))
    if recipe_yaml is not None:
        _write_text(folder / RECIPE, recipe_yaml)
    _write_text(folder / CARD, card or plain_card(folder.resolve().name, task, languages, both_directions))
    _write_json(folder / CONFIG, written)


class _Unfilled(TorchFunctionMode):
    """Leaves the memory of new parameters untouched: what a file holds takes their place."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if func in (Tensor.normal_, Tensor.uniform_):
            return args[0]
        return func(*args, **(kwargs or {}))


def load_model(folder: str | Path) -> LoadedModel:
    """Read a model folder, ours or Hugging Face's; the weights come as fp32 on the CPU, ready for use, not training.

    Raises ModelError, naming the file, for whatever is missing, broken or of another kind.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise ModelError(f"there is no model folder {folder}.")
    given = _read_json(folder / CONFIG)
    notes = _read_notes(folder, given)
    config, key_map, weights = _read_config(folder, given)
    # Whatever is still drawn is not taken from anybody else's random numbers.
    with torch.random.fork_rng(devices=[]), _Unfilled():
        model = model_of(config)
    wanted = model_tensors(model)
    shapes = {name: tensor.shape for name, tensor in wanted.items()}
    if key_map is None:
        key_map = KeyMap(Row(name, name) for name in wanted)
    tensors = key_map.read(weights, shapes, str(folder))
    with torch.no_grad():
        for name, tensor in tensors.items():
            # Into memory of the model's own: where numbers lie in a file, kernels may add them up in another order.
            wanted[name].copy_(tensor)
    source_tokenizer, target_tokenizer = _load_tokenizers(folder, notes.tokenizer)
    _check_vocabularies(folder, config, source_tokenizer, target_tokenizer)
    return LoadedModel(
        model=model.eval(),
        config=config,
        source_tokenizer=source_tokenizer,
        target_tokenizer=target_tokenizer,
        task=notes.task,
        languages=notes.languages or _hub_languages(folder),
        both_directions=notes.both_directions,
        attention_default=(notes.attention.layer, notes.attention.head) if notes.attention else None,
        generation=_read_generation(folder, given),
        name=folder.resolve().name,
        card=_read_text(folder / CARD) or "",
        recipe_yaml=_read_text(folder / RECIPE),
    )


def _place(layer: int, head: int | str) -> _Place:
    return _Place.model_validate({"layer": layer, "head": head})


def _read_notes(folder: Path, given: Mapping[str, Any]) -> _Notes:
    try:
        return _Notes.model_validate(given.get(_OURS) or {})
    except ValidationError as error:
        problem = error.errors()[0]
        key = ".".join([_OURS, *map(str, problem["loc"])])
        reason = problem["msg"].removeprefix("Value error, ")
        raise ModelError(f"{folder / CONFIG}: {key} is {problem['input']!r}: {reason}.") from None


def _read_config(folder: Path, given: Mapping[str, Any]) -> tuple[Any, KeyMap | None, dict[str, Tensor]]:
    """Return the config, the table of keys where they are not ours, and the weights."""
    model_type = given.get("model_type")
    known = hub_formats()
    if isinstance(model_type, str) and model_type.removeprefix(_OUR_TYPE) != model_type:
        architecture = find_architecture(model_type.removeprefix(_OUR_TYPE))
        fields = {name: value for name, value in given.items() if name not in _BESIDE_FIELDS}
        return make_config(architecture, fields, str(folder / CONFIG)), None, read_weights(folder)
    if model_type not in known:
        raise _unknown_type(folder, model_type, [*known, *(_OUR_TYPE + name for name in architectures())])
    weights = read_weights(folder)
    config = _located(folder, known[model_type].read_config, given, weights.keys())
    return config, known[model_type].key_map(config), weights


def _located(folder: Path, read_config: Any, *arguments: Any) -> Any:
    try:
        return read_config(*arguments)
    except ModelError as error:
        raise ModelError(f"{folder}: {error}") from None


def _unknown_type(folder: Path, model_type: Any, known: Sequence[str]) -> ModelError:
    close = nearest(str(model_type), known)
    hint = f" Did you mean {close}?" if close else ""
    return ModelError(
        f"{folder / CONFIG}: model_type is {model_type!r}, which cannot be loaded; known are {', '.join(known)}.{hint}"
    )


def _generation(config: Any, tokenizer: Any, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return generation_config.json; ours forbids padding, beginning and language tags inside a target."""
    settings = {name: value for name, value in given.items() if name != "normalization"}
    normalization = given.get("normalization", "gnmt")
    if normalization == "gnmt":
        specials = (tokenizer.id_of(token) for token in tokenizer.special_tokens)
        never = sorted(index for index in specials if index not in (None, config.eos_id, tokenizer.unk_id))
        settings = {
            "num_beams": 4,
            "length_penalty": 0.6,
            # With the token a target begins with.
            "max_length": getattr(config, "max_positions", 512) + 1,
            "bad_words_ids": [[index] for index in never],
            "forced_eos_token_id": config.eos_id,
            **settings,
        }
    return settings | {
        "decoder_start_token_id": config.start_id,
        "eos_token_id": config.eos_id,
        "pad_token_id": config.pad_id,
        _OURS: {"normalization": normalization},
    }


def _read_generation(folder: Path, config: Mapping[str, Any]) -> dict[str, Any]:
    """Return how to search; folders older than generation_config.json say it in config.json."""
    path = folder / GENERATION
    found = _read_json(path) if path.is_file() else config
    ours = (found.get(_OURS) or {}) if path.is_file() else {}
    settings = {name: found[name] for name in _GENERATION_NAMES if found.get(name) is not None}
    return settings | {"normalization": ours.get("normalization", "power")}


def _load_tokenizers(folder: Path, kind: str | None) -> tuple[Any, Any]:
    if kind == "marian" or (kind is None and (folder / "source.spm").is_file()):
        marian = MarianTokenizer.load(folder)
        return marian, marian.target
    source = Tokenizer.load(folder)
    if kind == "separate" or (kind is None and (folder / f"{TARGET_PREFIX}tokenizer.json").is_file()):
        return source, Tokenizer.load(folder, prefix=TARGET_PREFIX)
    return source, source


def _hub_languages(folder: Path) -> tuple[str, ...]:
    """Return the languages that a Marian tokenizer's settings name, if they do."""
    path = folder / "tokenizer_config.json"
    config = _read_json(path) if path.is_file() else {}
    source, target = config.get("source_lang"), config.get("target_lang")
    return (source, target) if isinstance(source, str) and isinstance(target, str) else ()


def _check_vocabularies(folder: Path, config: Any, source: Any, target: Any) -> None:
    for side, tokenizer in (("source", source), ("target", target)):
        size = getattr(config, f"{side}_vocab_size")
        if tokenizer.vocab_size > size:
            raise ModelError(
                f"{folder}: the {side} tokenizer has {tokenizer.vocab_size} tokens, but the model knows {size}: "
                "they are not of one model."
            )


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ModelError(f"{path.parent} is no model folder: {path.name} is missing.") from None
    except (OSError, ValueError) as error:
        raise ModelError(f"{path} cannot be read: {error}.") from None
    if not isinstance(content, dict):
        raise ModelError(f"{path} holds no JSON object, but a model folder's {path.name} does.")
    return content


def _read_text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise ModelError(f"{path} cannot be read: {error}.") from None


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    _write_text(path, json.dumps(content, ensure_ascii=False, indent=2) + "\n")


def _write_text(path: Path, content: str) -> None:
    with atomic_write(path, "w") as file:
        file.write(content)
