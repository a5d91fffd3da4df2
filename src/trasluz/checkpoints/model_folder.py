"""A model folder, in Hugging Face's layout: everything a task needs of a model, written and read.

    config.json             the model's shape; what only trasluz knows stands under the one key `trasluz`
    model.safetensors       weights, fp32 or fp16
    generation_config.json  how to search, of models that write
    tokenizer.json, ...     or source.spm, target.spm, vocab.json of Marian's models, vocab.txt of BERT's
    heads/TASK/             what further tasks change of an encoder (`task_folders.py`)
    modules.json, ...       how one vector is made of a text, of models that do (`sentence_vectors.py`)
    README.md, recipe.yaml  the model card, and how it was trained

Where Hugging Face has the architecture, config and keys are theirs, and `transformers` loads the folder. Any other
model keeps our names, under `model_type: trasluz-...`.
"""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, PositiveInt, ValidationError, model_validator
from torch import nn

from trasluz.checkpoints.filling import fill, float_dtype, unfilled
from trasluz.checkpoints.folder_files import read_json, read_text, write_json, write_text
from trasluz.checkpoints.generation_settings import read_generation, write_continuation, write_generation
from trasluz.checkpoints.model_card import plain_card
from trasluz.checkpoints.sentence_vectors import Pooling, read_pooling, write_pooling
from trasluz.checkpoints.task_folders import copy_tasks, task_folders, weights_of_task
from trasluz.checkpoints.tokenizer_files import TokenizerKind, load_tokenizers, save_tokenizers, tokenizer_kind
from trasluz.checkpoints.weights import WEIGHTS, StoredWeights, model_tensors, read_weights, write_weights
from trasluz.errors import ModelError, nearest
from trasluz.layers.attention import Attention
from trasluz.layers.int8 import to_int8
from trasluz.models.bert import Bert
from trasluz.models.bigbird import lengthened
from trasluz.models.config import SequenceToSequenceConfig
from trasluz.models.hub_format import format_for, hub_formats
from trasluz.models.key_map import KeyMap, Row
from trasluz.models.registry import architectures, find_architecture, make_config, model_of
from trasluz.text.encoder_template import Keep

CONFIG = "config.json"
CARD = "README.md"
RECIPE = "recipe.yaml"

_OURS = "trasluz"
_OUR_TYPE = "trasluz-"
# What stands in a config.json of ours beside the fields of the config.
_BESIDE_FIELDS = ("model_type", "architectures", "dtype", "transformers_version", _OURS)
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

    task: str | None = Field(None, description="None: what the model's head is for")
    languages: tuple[str, ...] = ()
    both_directions: bool = False
    attention: _Place | None = None
    tokenizer: TokenizerKind | None = Field(None, description="None: as the files tell")
    base: Literal["../.."] | None = Field(
        None, description="the folder that has what this one lacks: see `task_folders.py`"
    )
    max_length: PositiveInt | None = Field(None, description="tokens that are read; None: as the tokenizer says")
    kept_part: Keep | None = Field(None, description="what stays of a longer text; None: as the tokenizer says")

    @model_validator(mode="after")
    def _two_to_turn_round(self) -> "_Notes":
        if self.both_directions and len(self.languages) != 2:
            raise ValueError(f"`both_directions` needs two `languages`, but there are {len(self.languages)}")
        return self


@dataclass
class LoadedModel:
    """What a model folder holds; of a model that reads and writes with one tokenizer, both are the same."""

    model: nn.Module
    config: Any
    source_tokenizer: Any
    target_tokenizer: Any
    task: str = "translate"
    languages: tuple[str, ...] = ()
    both_directions: bool = False
    attention_default: AttentionPlace | None = None
    generation: dict[str, Any] = field(default_factory=dict)
    pooling: Pooling | None = None
    name: str = ""
    card: str = ""
    recipe_yaml: str | None = None
    further_tasks: dict[str, Path] = field(default_factory=dict)
    """Where the folder it came from keeps what further tasks change of it."""

    def placed(self, device: torch.device | str, dtype: torch.dtype) -> nn.Module:
        """Put the model on a device and into a number type, where it is not there yet, and return it."""
        self.model.to(device, float_dtype(dtype)).eval()
        if dtype == torch.int8:
            to_int8(self.model)
        return self.model

    def lengthened(self, max_positions: int, **choices: Any) -> "LoadedModel":
        """Return a BigBird of this encoder's weights that reads longer texts; see `models.bigbird.lengthened`.

        All that is said of the longest text is said anew: by the tokenizer, and of what vectors are made of.
        """
        if not isinstance(self.model, Bert):
            raise ModelError(f"{self.name} is no encoder; only encoders are made longer.")
        longer = lengthened(self.model, max_positions, **choices)
        tokenizer = copy.copy(self.source_tokenizer)
        tokenizer.max_length = longer.config.longest_text
        pooling = self.pooling and replace(self.pooling, max_tokens=None)
        return replace(
            self,
            model=longer.eval(),
            config=longer.config,
            source_tokenizer=tokenizer,
            target_tokenizer=tokenizer,
            pooling=pooling,
        )

    @property
    def longest_text(self) -> int:
        """Most tokens that a model of one text reads, special ones included: its positions, or fewer if so told."""
        positions: int = self.config.longest_text
        return min(positions, getattr(self.source_tokenizer, "max_length", None) or positions)

    @property
    def attention_kind(self) -> str | None:
        """Which kind of attention is shown: over the source where there is one, else of a text over itself."""
        return _attention_kind(self.model)

    @property
    def attention_place(self) -> tuple[int, int | str] | None:
        """Layer and head whose attention is shown; None for a model without attention.

        A model that does not name them shows the usual ones. Raises ModelError for names that the model does not have.
        """
        kind = self.attention_kind
        if kind is None:
            return None
        if self.attention_default is None:
            return usual_attention(self.model)
        model: Any = self.model
        stack: list[Attention] = model.attentions()[kind]
        layer, head = self.attention_default
        if not 0 <= layer < len(stack) or (head != "mean" and not 0 <= int(head) < stack[layer].num_heads):
            raise ModelError(
                f"config.json of {self.name} shows attention layer {layer}, head {head}, but the model has "
                f"{len(stack)} layers of {stack[0].num_heads} heads."
            )
        return layer, head


def usual_attention(model: Any) -> AttentionPlace | None:
    """Return the mean over the heads of the last layer but one; None for a model without attention.

    Garg et al. 2019 ("Jointly Learning to Align and Translate with Transformer Models") found it to align best. A text
    over itself has no alignment to choose by; it is shown in the same way.
    """
    kind = _attention_kind(model)
    if kind is None:
        return None
    stack: list[Attention] = model.attentions()[kind]
    layer = max(0, len(stack) - 2)
    return layer, "mean" if stack[layer].num_heads > 1 else 0


def _attention_kind(model: Any) -> str | None:
    kinds = model.attentions()
    return next((kind for kind in ("cross", "encoder", "decoder") if kinds.get(kind)), None)


def language_tag(language: str) -> str:
    """Return the token that begins a source text and says which language to translate it to."""
    return f"<2{language}>"


def language_tags(loaded: LoadedModel) -> dict[str, str]:
    """Return, for each language a model can be told to translate to, the token that tells it; most models need none."""
    codes: Sequence[str] = getattr(loaded.source_tokenizer, "language_codes", ())
    if codes:
        return {code.removeprefix(">>").removesuffix("<<"): code for code in codes}
    return {language: language_tag(language) for language in reversed(loaded.languages) if loaded.both_directions}


def save_model(
    folder: str | Path,
    model: nn.Module,
    source_tokenizer: Any,
    target_tokenizer: Any,
    *,
    task: str | None = None,
    languages: Sequence[str] = (),
    both_directions: bool = False,
    card: str = "",
    recipe_yaml: str | None = None,
    generation: Mapping[str, Any] | None = None,
    attention_default: AttentionPlace | None = None,
    pooling: Pooling | None = None,
    dtype: str = "fp32",
) -> None:
    """Write a model folder, each file atomically and config.json last; other files there are left alone.

    `task` is what the model's head is for where it is not given. `generation` has the names of generation_config.json
    (num_beams, length_penalty, ...), and `normalization`: "gnmt", ours where it is not given, or "power", Hugging
    Face's. `dtype` is that of the stored weights: "fp32" or "fp16".
    """
    if dtype not in _DTYPES:
        raise ModelError(f"weights cannot be stored as {dtype!r}; say {' or '.join(_DTYPES)}.")
    folder = Path(folder)
    config: Any = model.config
    task = task or config.task
    notes = _Notes(
        task=task,
        languages=tuple(languages),
        both_directions=both_directions,
        attention=None if attention_default is None else _place(*attention_default),
        tokenizer=tokenizer_kind(source_tokenizer, target_tokenizer),
        base=None,
        max_length=None,
        kept_part=None,
    )
    tensors = model_tensors(model)
    hub = format_for(config)
    if hub is None:
        model_type = next(name for name, known in architectures().items() if type(config) is known.config_class)
        written = {"model_type": _OUR_TYPE + model_type, "architectures": [type(model).__name__], **config.model_dump()}
    else:
        hub_format, in_their_words = hub
        written = {
            "model_type": hub_format.model_type,
            "architectures": [hub_format.class_name(config)],
            **in_their_words,
        }
        tensors = hub_format.key_map(config).write(tensors)
    written |= {"dtype": str(_DTYPES[dtype]).removeprefix("torch."), _OURS: notes.model_dump(exclude_none=True)}
    write_weights(folder / WEIGHTS, tensors, _DTYPES[dtype])
    save_tokenizers(folder, source_tokenizer, target_tokenizer)
    if isinstance(config, SequenceToSequenceConfig):
        write_generation(folder, config, target_tokenizer, generation or {})
    elif config.task == "generate":
        write_continuation(folder, config, generation or {})
    if pooling is not None:
        write_pooling(folder, config.model_dim, pooling)
    if recipe_yaml is not None:
        write_text(folder / RECIPE, recipe_yaml)
    write_text(folder / CARD, card or plain_card(folder.resolve().name, task, languages, both_directions))
    write_json(folder / CONFIG, written)


def save_loaded(folder: str | Path, loaded: LoadedModel, dtype: str = "fp32") -> None:
    """Write again what a model folder held, further tasks as well; see `save_model`."""
    save_model(
        folder,
        loaded.model,
        loaded.source_tokenizer,
        loaded.target_tokenizer,
        task=loaded.task,
        languages=loaded.languages,
        both_directions=loaded.both_directions,
        card=loaded.card,
        recipe_yaml=loaded.recipe_yaml,
        generation=loaded.generation,
        attention_default=loaded.attention_default,
        pooling=loaded.pooling,
        dtype=dtype,
    )
    copy_tasks(loaded.further_tasks, Path(folder))


def load_model(folder: str | Path, dtype: torch.dtype = torch.float32) -> LoadedModel:
    """Read a model folder, ours or Hugging Face's; the weights come as `dtype` on the CPU, ready for use, not training.

    Raises ModelError, naming the file, for whatever is missing, broken or of another kind.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise ModelError(f"there is no model folder {folder}.")
    given = read_json(folder / CONFIG)
    notes = _read_notes(folder, given)
    config, key_map, weights = _read_config(folder, given)
    with unfilled():
        model = model_of(config)
    shapes = {name: tensor.shape for name, tensor in model_tensors(model).items()}
    if key_map is None:
        key_map = KeyMap(Row(name, name) for name in shapes)
    if notes.base:
        weights = weights_of_task(folder, weights, set(key_map.write(model_tensors(model))))
    fill(model, key_map.read(weights.tensors, shapes, str(folder)), dtype, weights.let_go)
    shared = folder / notes.base if notes.base else folder
    source_tokenizer, target_tokenizer = load_tokenizers(shared, notes.tokenizer, config)
    if notes.max_length is not None:
        source_tokenizer.max_length = notes.max_length
    if notes.kept_part is not None:
        source_tokenizer.keep = notes.kept_part
    return LoadedModel(
        model=model.eval(),
        config=config,
        source_tokenizer=source_tokenizer,
        target_tokenizer=target_tokenizer,
        task=notes.task or config.task,
        languages=notes.languages or _hub_languages(folder),
        both_directions=notes.both_directions,
        attention_default=(notes.attention.layer, notes.attention.head) if notes.attention else None,
        generation=read_generation(folder, given),
        pooling=read_pooling(shared),
        name=shared.resolve().name,
        card=read_text(folder / CARD) or read_text(shared / CARD) or "",
        recipe_yaml=read_text(folder / RECIPE),
        further_tasks=task_folders(folder),
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


def _read_config(folder: Path, given: Mapping[str, Any]) -> tuple[Any, KeyMap | None, StoredWeights]:
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
    config = _located(folder, known[model_type].read_config, given, weights.tensors.keys())
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


def _hub_languages(folder: Path) -> tuple[str, ...]:
    """Return the languages that a Marian tokenizer's settings name, if they do."""
    path = folder / "tokenizer_config.json"
    config = read_json(path) if path.is_file() else {}
    source, target = config.get("source_lang"), config.get("target_lang")
    return (source, target) if isinstance(source, str) and isinstance(target, str) else ()
