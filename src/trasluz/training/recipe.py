"""The recipe: everything that a run is made of, as one tree of frozen sections.

The descriptions below are the text of docs/recipe.md.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PrivateAttr, model_validator

from trasluz.errors import nearest
from trasluz.text.encoder_template import Keep
from trasluz.training.quantities import (
    Averaging,
    ByLanguage,
    Count,
    Duration,
    Entry,
    Every,
    Form,
    Integer,
    Label,
    Number,
    Rhythm,
    Seconds,
)
from trasluz.training.task_rules import METRICS, ONLY_FOR, MetricName


class Section(BaseModel):
    """A part of the recipe: frozen, and unknown keys are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, arbitrary_types_allowed=True)


class _ModelKeyError(ValueError):
    """A key below `model` is wrong: which one."""

    def __init__(self, message: str, key: str) -> None:
        super().__init__(message)
        self.key = key


def _check_model(value: Any) -> Any:
    if isinstance(value, str) and value:
        return value
    if isinstance(value, dict) and isinstance(value.get("preset"), str):
        return value
    if isinstance(value, dict) and isinstance(value.get("from"), str):
        return _check_start(value)
    raise ValueError(
        "write a preset, a mapping {preset: ..., key: value}, a model folder to start from, or a part of one, "
        "{from: MODEL, layers: every-second}"
    )


def _check_start(value: dict[str, Any]) -> dict[str, Any]:
    unknown = [key for key in value if key not in ("from", "layers", "lengthen") and not leaves_weights(key)]
    if unknown:
        close = nearest(unknown[0], ("layers", "lengthen", DROPOUT, *RANDOM_BLOCKS))
        raise _ModelKeyError(
            f"a model that is started from has its shape: beside `from` there are `layers`, `lengthen`, rates of "
            f"dropout and a BigBird's {', '.join(RANDOM_BLOCKS)}, not {unknown[0]!r}"
            + (f"; did you mean {close}?" if close else ""),
            unknown[0],
        )
    layers, lengthen = value.get("layers"), value.get("lengthen")
    settings = {key: setting for key, setting in value.items() if leaves_weights(key)}
    numbers = isinstance(layers, list) and all(isinstance(one, int) and one >= 0 for one in layers)
    rising = numbers and layers and layers == sorted(set(layers))
    if layers is not None and layers != EVERY_SECOND and not rising:
        raise _ModelKeyError(
            f"`layers` is {layers!r}: write {EVERY_SECOND}, or numbers in rising order, such as [0, 2, 4]", "layers"
        )
    if lengthen is not None and not (isinstance(lengthen, dict) and isinstance(lengthen.get("max_positions"), int)):
        raise _ModelKeyError(f"`lengthen` is {lengthen!r}: write for instance {{max_positions: 4096}}", "lengthen")
    parts = {"layers": layers, "lengthen": lengthen, **settings}
    return {"from": value["from"]} | {key: part for key, part in parts.items() if part is not None}


EVERY_SECOND = "every-second"
DROPOUT = "dropout"
"""How the keys of a model's rates of dropout end."""

RANDOM_BLOCKS = ("random_plan", "random_seed", "full_up_to")
"""What of a BigBird's attention may be another when its weights are learnt on."""


def leaves_weights(key: str) -> bool:
    """Tell whether a model's weights stay what they are, whatever this key of its config says."""
    return key.endswith(DROPOUT) or key in RANDOM_BLOCKS


ModelChoice = Annotated[
    Any,
    BeforeValidator(_check_model),
    Form(
        "preset, mapping with a preset, model folder, or a part of one, `{from: MODEL, layers: every-second}`, or a "
        "longer one, `{from: MODEL, lengthen: {max_positions: 4096}}`, or one with other dropout or, of a BigBird, "
        "other random blocks, `{from: MODEL, dropout: 0.1, random_plan: paper}`"
    ),
]


class DataSection(Section):
    """The text that is learnt from."""

    train: Entry = Field(description="The pairs to train on.")
    valid: Entry | None = Field(
        default=None, description="The pairs to choose by; absent, a seeded part of `train` is held out."
    )
    languages: tuple[str, str] = Field(
        default=("en", "es"), description="The languages of the two sides, in the order of the files."
    )
    both_directions: bool = Field(
        default=False, description="Learn to translate both ways; a tag before the source says where to."
    )
    sources: list[str] | None = Field(default=None, description="Only rows whose column `source` is one of these.")
    exclude: list[Entry] = Field(
        default_factory=list,
        description="Data that must stay unseen: a training pair that shares a side with it, or a question that shares "
        "its context, is left out.",
    )
    unlabelled: list[Entry] = Field(
        default_factory=list,
        description="classify: further texts to learn from, without labels: only a teacher says something of them. "
        "`data.sources` holds for them, too.",
    )
    back_translated: ByLanguage = Field(
        default_factory=dict,
        description="translate: further pairs, by the language whose side a model has translated from the other: that "
        "side is only read, behind the tag `<bt>`, and never learnt to be written (Sennrich et al. 2016; Caswell et "
        "al. 2019). `data.sources` holds for them, too.",
    )
    on_error: Literal["stop", "skip"] = Field(
        default="stop", description="What a malformed line does; skipped ones are counted."
    )
    held_out: Count = Field(
        default=1000,
        description="About how many pairs are held out where `valid` is absent (at most a tenth); all questions about "
        "a context are held out together.",
    )
    max_length: Count = Field(
        default=250,
        description="Pairs with more tokens than this on a side are left out and counted; texts to classify are cut to "
        "it, special tokens included; plain text is taken in pieces of it, contexts of questions and texts to continue "
        "in windows.",
    )
    kept_part: Keep | None = Field(
        default=None,
        description="classify: what stays of a text that is too long: its `start`, its `end`, or both `ends`, a "
        "quarter of `max_length` for the start (Sun et al. 2019); absent: as the given model has it, else the start.",
    )
    document: Literal["line", "file"] = Field(
        default="line",
        description="generate: what a document is in plain text, a line or a whole file with its line ends; in tables "
        "it is a row.",
    )
    packing: bool = Field(
        default=False,
        description="fill-mask: several short texts share a row of `max_length`, and see nothing of each other; "
        "otherwise those of like length are put together.",
    )
    pairs: bool = Field(
        default=False, description="classify: an example is a pair of texts, columns `text` and `second_text`."
    )
    labels: list[Label] | None = Field(
        default=None, description="classify, tag: the labels, in their order; absent: those found in `train`."
    )
    label_kind: Literal["one", "several", "number"] = Field(
        default="one",
        description="classify: a text has one label, several with commas between (or a list), or a number.",
    )
    overlap: Integer = Field(
        default=128,
        ge=0,
        description="answer: tokens that two windows over a long context have in common; at most half of a window.",
    )
    cache: str | None = Field(
        default=None, description="Folder of the token cache, shared by runs on the same data; absent: in `output`."
    )

    @model_validator(mode="after")
    def _back_translated_is_read(self) -> "DataSection":
        first, second = self.languages
        for language in self.back_translated:
            if language not in self.languages:
                raise ValueError(f"back_translated names {language}, but the languages are {first} and {second}")
            if language == second and not self.both_directions:
                raise ValueError(
                    f"back_translated names {second}, which this model writes: what a model wrote is only read. "
                    f"Translate {second} to {first}, and name it as {first}"
                )
        return self

    @model_validator(mode="after")
    def _labels_fit(self) -> "DataSection":
        labels = self.labels
        if labels is None:
            return self
        if len(set(labels)) < len(labels):
            raise ValueError("labels must be different")
        if self.label_kind == "number" and len(labels) != 1:
            raise ValueError(f"labels are {len(labels)}, but a number has one name")
        if self.label_kind == "one" and len(labels) < 2:
            raise ValueError("labels must be at least two, or there is nothing to tell apart")
        return self


class TokenizerSection(Section):
    """How text becomes ids."""

    kind: Literal["bpe", "unigram", "word", "character", "wordpiece"] = Field(
        default="bpe",
        description="What the pieces are; encoders take bpe or wordpiece, generate takes bpe or character, of bytes.",
    )
    vocab_size: Count = Field(default=8000, description="Number of different tokens, special ones included.")
    shared: bool = Field(default=True, description="One vocabulary for both languages, or one for each.")
    lowercase: bool = Field(default=False, description="Read every text in lower case.")
    load: str | None = Field(default=None, description="A folder with trained tokenizers to use instead.")


class MaskingSection(Section):
    """Which words are masked to be guessed, anew in every epoch."""

    rate: Number = Field(default=0.15, gt=0, lt=1, description="Share of a text's pieces that are to be guessed.")
    unit: Literal["tokens", "words", "spans"] = Field(
        default="words", description="What is chosen: pieces, whole words, or stretches of up to ten words."
    )
    masked_share: Number = Field(default=0.8, ge=0, le=1, description="Of those: how many the mask token stands for.")
    random_share: Number = Field(
        default=0.1, ge=0, le=1, description="Of those: how many another piece stands for; the rest stay as they are."
    )

    next_sentence: bool = Field(
        default=False,
        description="Learn also whether one text follows another; documents are kept apart by empty lines, or are the "
        "rows of a table.",
    )

    @model_validator(mode="after")
    def _shares_fit(self) -> "MaskingSection":
        if self.masked_share + self.random_share > 1:
            raise ValueError(
                f"masked_share and random_share are {self.masked_share} and {self.random_share}, together more than 1"
            )
        return self


class DistillationSection(Section):
    """What a larger model teaches an encoder, beside what the data do; the weights are DistilBERT's."""

    teacher: str | None = Field(
        default=None, description="The model that teaches; it does the same task with the same tokens. Absent: none."
    )
    temperature: Number = Field(
        default=2.0, gt=0, description="What the scores of both are divided by, so that unlikely answers teach, too."
    )
    soft_weight: Number = Field(default=5.0, ge=0, description="Weight of the teacher's probabilities.")
    data_weight: Number = Field(
        default=2.0,
        ge=0,
        description="Weight of what the data say: masked words, or labels. Part of a mean over all texts, "
        "`data.unlabelled` among them.",
    )
    hidden_weight: Number = Field(
        default=1.0, ge=0, description="Weight of the angle between the two models' states; needs equal widths."
    )


class TrainingSection(Section):
    """The updates. The first budget that is reached ends the run."""

    max_time: Duration | None = Field(
        default=None, description="Budget of time, evaluations included; goes on counting after a resume."
    )
    max_steps: Count | None = Field(default=None, description="Budget of updates.")
    max_epochs: Count | None = Field(default=None, description="Budget of passes over the data.")
    max_tokens: Count | None = Field(default=None, description="Budget of target tokens, padding not counted.")
    batch_tokens: Count = Field(
        default=4096, description="Target tokens an update, padding included, over all devices."
    )
    micro_batch_tokens: Count | None = Field(
        default=None,
        description="At most this many tokens go through the model at once; the update's gradient stays exact.",
    )
    recompute_activations: bool = Field(
        default=False,
        description="Compute each layer again in the backward pass instead of keeping what it computed: far less "
        "memory for a third more time. Of Transformers.",
    )
    parallel: Literal["none", "ddp", "fsdp"] = Field(
        default="none",
        description="How the processes that torchrun starts share the work: ddp, each has the model; fsdp, each has a "
        "slice of it.",
    )
    device: str = Field(default="auto", description="auto, cpu, cuda or cuda:N.")
    threads: Count | None = Field(
        default=None, description="Threads on a CPU; absent: PyTorch decides, one a process under torchrun."
    )
    precision: Literal["auto", "fp32", "bf16", "int8"] = Field(
        default="auto",
        description="auto is fp32 on a CPU, bf16 on a GPU that has it; a device without bf16 instructions "
        "trains in fp32. int8, for a CPU with AVX512-VNNI: products of layers in eight bits, but for the gradients of "
        "weights; all else in bf16, or fp32.",
    )
    optimizer: Literal["adamw", "adam", "muon"] = Field(
        default="adamw",
        description="Adam, with decoupled weight decay or none; or Muon for the matrices of hidden linear layers and "
        "AdamW for the rest: fewer updates, each of more work, by the same learning rate.",
    )
    betas: tuple[float, float] = Field(
        default=(0.9, 0.98), description="How slowly Adam forgets gradients and their squares."
    )
    epsilon: Number = Field(default=1e-9, gt=0, description="Added to Adam's denominator.")
    weight_decay: Number = Field(
        default=0.0, ge=0, description="Decay of weights an update, times the learning rate; not for norms and biases."
    )
    clip_norm: Number = Field(
        default=1.0, ge=0, description="Gradients longer than this are scaled down to it; 0: never."
    )
    learning_rate: Number = Field(default=1e-3, gt=0, description="The highest learning rate of the schedule.")
    schedule: Literal["noam", "linear", "cosine", "constant", "plateau"] = Field(
        default="noam",
        description="After a linear warm-up: noam falls with 1/sqrt(step); linear and cosine fall to 0 at the end of "
        "the budget; plateau is multiplied by `plateau_factor` after `plateau_patience` evaluations without a "
        "better one.",
    )
    warmup_steps: Integer = Field(default=2000, ge=0, description="Updates until the highest learning rate is reached.")
    plateau_factor: Number = Field(default=0.5, gt=0, lt=1, description="What plateau multiplies the learning rate by.")
    plateau_patience: Count = Field(default=2, description="Evaluations without a better one until plateau does so.")
    label_smoothing: Number = Field(
        default=0.1,
        ge=0,
        lt=1,
        description="Share of the probability spread over all tokens, places or labels, where there is one a text.",
    )
    piece_dropout: Number = Field(
        default=0.0,
        ge=0,
        lt=1,
        description="BPE-dropout: share of joined pieces that are taken apart again, differently in every epoch; "
        "`batch_tokens` counts what was there before.",
    )
    layer_decay: Number = Field(
        default=1.0,
        gt=0,
        le=1,
        description="Of an encoder: each layer learns this many times as fast as the one above it.",
    )
    freeze_layers: Integer = Field(
        default=0,
        ge=0,
        description="Of an encoder: the embeddings and so many of the lowest layers stay as they are; 0: none.",
    )
    class_weights: dict[Label, Number] | Literal["balanced"] | None = Field(
        default=None,
        description="classify: what an example of a label counts, {label: weight}; balanced: the rarer, the more.",
    )
    seed: Integer = Field(default=1, ge=0, description="Everything drawn at random follows from it.")
    save_every: Duration = Field(
        default=Seconds(900), description="A checkpoint between evaluations, so that a crash costs no more than this."
    )
    log_every: Count = Field(default=50, description="Updates that one line of metrics.jsonl sums up.")
    max_skipped: Count = Field(
        default=5, description="Updates in a row with a loss or gradient that is no number, until the run gives up."
    )


class EvaluationSection(Section):
    """When the run looks at `data.valid`, by what it chooses, and what it keeps."""

    every: Rhythm = Field(default=Every(500, "steps"), description="When to evaluate and save.")
    metric: MetricName = Field(
        default="bleu",
        description="What decides which weights are better; where it is not given, bleu for translations, accuracy for "
        "labels, micro_f1 for several, spearman for numbers, entity_f1 for tags, answer_f1 for answers, loss for "
        "masked words and for texts that go on.",
    )
    answer_rules: Literal["squad", "mlqa-en", "mlqa-es"] = Field(
        default="squad",
        description="answer: what makes no difference between two answers: case, punctuation and articles, as the "
        "official program of SQuAD or of MLQA in a language counts.",
    )
    beam: Count = Field(default=4, description="Beam of the translations that bleu and chrf score.")
    length_penalty: Number = Field(default=0.6, ge=0, description="GNMT length penalty of that search.")
    sentences: Count = Field(
        default=1000,
        description="At most this many pairs of `valid` are translated at an evaluation; all of them, with the model's "
        "own beam, when the last choice is made.",
    )
    patience: Count | None = Field(
        default=8, description="Evaluations in a row without a better one that end the run; null: never."
    )
    keep: Count = Field(
        default=5, description="Newest checkpoints kept; the best one, and those the average needs, stay as well."
    )
    average: Averaging = Field(
        default=None,
        description="Average the weights of these checkpoints at the end; written if better than the best checkpoints.",
    )


class Recipe(Section):
    """Sections and names of the whole recipe."""

    task: Literal["translate", "fill-mask", "classify", "tag", "answer", "generate"] = Field(
        default="translate", description="What the model will do."
    )
    model: ModelChoice = Field(default="transformer-tiny", description="What is trained.")
    data: DataSection = Field(description=DataSection.__doc__ or "")
    tokenizer: TokenizerSection = Field(default_factory=TokenizerSection, description=TokenizerSection.__doc__ or "")
    masking: MaskingSection = Field(default_factory=MaskingSection, description=MaskingSection.__doc__ or "")
    distillation: DistillationSection = Field(
        default_factory=DistillationSection, description=DistillationSection.__doc__ or ""
    )
    training: TrainingSection = Field(default_factory=TrainingSection, description=TrainingSection.__doc__ or "")
    evaluation: EvaluationSection = Field(
        default_factory=EvaluationSection, description=EvaluationSection.__doc__ or ""
    )
    output: str = Field(description="The run folder: model, checkpoints, metrics and this recipe with every default.")

    # Where each key stands in the file the recipe was read from: key path -> "recipe.yaml:12".
    _places: dict[str, str] = PrivateAttr(default_factory=dict)

    def place(self, key: str, *below: str) -> str:
        """Return where a key stands, for messages: `recipe.yaml:12: training.batch_tokens`, or the key alone.

        In its place is taken which of the keys `below` it was written last: overrides come after the file.
        """
        inner = {f"{key}.{one}" for one in below}
        key = next((one for one in reversed(self._places) if one in inner), key)
        return f"{self._places[key]}: {key}" if key in self._places else key

    @model_validator(mode="before")
    @classmethod
    def _usual_metric(cls, given: Any) -> Any:
        """Put in the metric of the task where none is given; what is wrong elsewhere is found later."""
        if not isinstance(given, dict):
            return given
        evaluation, data = given.get("evaluation") or {}, given.get("data")
        task = given.get("task", "translate")
        kind = data.get("label_kind", "one") if isinstance(data, dict) else ""
        known = METRICS.get((task, kind)) if isinstance(task, str) and isinstance(kind, str) else None
        if known is None or not isinstance(evaluation, dict) or "metric" in evaluation:
            return given
        return {**given, "evaluation": {**evaluation, "metric": known[0]}}

    @model_validator(mode="after")
    def _metric_of_task(self) -> "Recipe":
        known = METRICS.get((self.task, self.data.label_kind)) or METRICS[self.task, "one"]
        if self.evaluation.metric not in known:
            raise ValueError(
                f"evaluation.metric is {self.evaluation.metric}, by which this task is not judged: it can be "
                f"{', '.join(known)}"
            )
        return self

    @model_validator(mode="after")
    def _keys_of_task(self) -> "Recipe":
        for key, tasks in ONLY_FOR.items():
            section, _, name = key.partition(".")
            part = getattr(self, section)
            usual = type(part).model_fields[name].get_default(call_default_factory=True) if name else type(part)()
            is_usual = (getattr(part, name) if name else part) == usual
            if self.task not in tasks and not is_usual:
                raise ValueError(f"{key} means nothing to the task {self.task}: it is for {' and '.join(tasks)}")
        return self

    @model_validator(mode="after")
    def _budget(self) -> "Recipe":
        training = self.training
        budgets = (training.max_time, training.max_steps, training.max_epochs, training.max_tokens)
        if training.schedule in ("linear", "cosine") and not any(budgets):
            raise ValueError(
                f"training.schedule {training.schedule} falls until the end of the run and needs to know it: "
                "set one of training.max_time, max_steps, max_epochs, max_tokens"
            )
        if not any(budgets) and self.evaluation.patience is None:
            raise ValueError(
                "training would never end: set one of training.max_time, max_steps, max_epochs, max_tokens, "
                "or evaluation.patience"
            )
        if training.micro_batch_tokens and training.micro_batch_tokens > training.batch_tokens:
            raise ValueError(
                f"training.micro_batch_tokens is {training.micro_batch_tokens}, more than training.batch_tokens, "
                f"{training.batch_tokens}: an update is split into smaller pieces, never joined"
            )
        if self.task == "translate" and self.tokenizer.kind == "wordpiece":
            raise ValueError(
                "tokenizer.kind wordpiece is for encoders; a translator takes bpe, unigram, word or character"
            )
        if training.batch_tokens < self.data.max_length + 1 + self.data.both_directions:
            raise ValueError(
                f"training.batch_tokens is {training.batch_tokens}, below the longest sentence that data.max_length, "
                f"{self.data.max_length}, lets in (with its end and a language tag): raise the one or lower the other"
            )
        if self.data.both_directions and not self.tokenizer.shared:
            raise ValueError(
                "data.both_directions needs one vocabulary for both languages: set tokenizer.shared to true"
            )
        return self
