"""What means something to which task: keys of the recipe, and metrics."""

from typing import Literal, get_args

MetricName = Literal[
    "bleu",
    "chrf",
    "loss",
    "perplexity",
    "accuracy",
    "macro_f1",
    "micro_f1",
    "matthews",
    "subset_accuracy",
    "pearson",
    "spearman",
    "mean_squared_error",
    "next_sentence_accuracy",
    "entity_precision",
    "entity_recall",
    "entity_f1",
    "exact_match",
    "answer_f1",
]

METRIC_NAMES: tuple[str, ...] = get_args(MetricName)

# Keys, and whole sections, that mean something to one task only.
ONLY_FOR: dict[str, tuple[str, ...]] = {
    "data.languages": ("translate",),
    "data.both_directions": ("translate",),
    "data.back_translated": ("translate",),
    "tokenizer.shared": ("translate",),
    "training.piece_dropout": ("translate",),
    "evaluation.beam": ("translate",),
    "evaluation.length_penalty": ("translate",),
    "evaluation.sentences": ("translate",),
    "data.packing": ("fill-mask",),
    "data.document": ("generate",),
    "data.pairs": ("classify",),
    "data.kept_part": ("classify",),
    "data.unlabelled": ("classify",),
    "data.labels": ("classify", "tag"),
    "data.label_kind": ("classify",),
    "data.overlap": ("answer",),
    "masking": ("fill-mask",),
    "distillation": ("fill-mask", "classify", "tag", "answer"),
    "training.layer_decay": ("classify", "tag", "answer"),
    "training.freeze_layers": ("classify", "tag", "answer"),
    "training.class_weights": ("classify",),
    "evaluation.answer_rules": ("answer",),
}

# By task, and by the kind of label: what decides, then what else may.
METRICS: dict[tuple[str, str], tuple[MetricName, ...]] = {
    ("translate", "one"): ("bleu", "chrf", "loss", "perplexity"),
    ("fill-mask", "one"): ("loss", "perplexity", "accuracy", "next_sentence_accuracy"),
    ("generate", "one"): ("loss", "perplexity"),
    ("tag", "one"): ("entity_f1", "entity_precision", "entity_recall", "accuracy", "loss"),
    ("answer", "one"): ("answer_f1", "exact_match", "loss"),
    ("classify", "one"): ("accuracy", "macro_f1", "micro_f1", "matthews", "loss"),
    ("classify", "several"): ("micro_f1", "macro_f1", "subset_accuracy", "loss"),
    ("classify", "number"): ("spearman", "pearson", "mean_squared_error", "loss"),
}
