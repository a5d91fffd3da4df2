"""How large a model, a vocabulary and a batch fit a corpus and a machine: the rules of thumb of `init`.

A small model on little text must be kept from learning it by heart (dropout); a large one on much text needs time.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

# Sub-words of a language of Europe at a vocabulary of some thousands; decides batch sizes only, so a guess will do.
PIECES_A_WORD = 1.35
# An epoch should bring at least about this many updates, and a run be looked at about this often.
UPDATES_AN_EPOCH = 60


@dataclass(frozen=True)
class Corpus:
    """What was counted in the training text; `more` says that counting stopped early."""

    num_pairs: int
    source_words: int
    target_words: int
    distinct_words: int
    longest: int
    more: bool = False


@dataclass(frozen=True)
class LabelledCorpus:
    """What was counted in labelled texts; `long_words` are the words of a text longer than 19 of 20."""

    num_texts: int
    words: int
    long_words: int
    num_labels: int
    more: bool = False

    @property
    def max_length(self) -> int:
        """Tokens to which texts are cut: enough for nearly all, and no more than encoders usually have positions."""
        return max(32, min(512, 2 ** math.ceil(math.log2(max(1.0, self.long_words * PIECES_A_WORD + 3)))))


@dataclass(frozen=True)
class Machine:
    """What the run will stand on."""

    num_cores: int
    gpu_memory: int = 0

    @property
    def has_gpu(self) -> bool:
        return self.gpu_memory > 0


def count_corpus(pairs: Iterable[tuple[str, str]], most: int) -> Corpus:
    """Count pairs and words of at most `most` pairs."""
    distinct: set[str] = set()
    num_pairs = source_words = target_words = longest = 0
    for source, target in pairs:
        if num_pairs == most:
            return Corpus(num_pairs, source_words, target_words, len(distinct), longest, more=True)
        sides = source.split(), target.split()
        num_pairs += 1
        source_words += len(sides[0])
        target_words += len(sides[1])
        longest = max(longest, len(sides[0]), len(sides[1]))
        distinct.update(*sides)
    return Corpus(num_pairs, source_words, target_words, len(distinct), longest)


def count_labelled(texts: Iterable[tuple[str, str]], most: int, label_kind: str) -> LabelledCorpus:
    """Count words and labels of at most `most` texts."""
    lengths: list[int] = []
    labels: set[str] = set()
    more = False
    for text, label in texts:
        if len(lengths) == most:
            more = True
            break
        lengths.append(len(text.split()))
        labels.update(part.strip() for part in (label.split(",") if label_kind == "several" else [label]))
    lengths.sort()
    return LabelledCorpus(len(lengths), sum(lengths), lengths[19 * len(lengths) // 20], len(labels), more)


def classification_for(corpus: LabelledCorpus, machine: Machine, *, pretrained: bool) -> dict[str, Any]:
    """Return the settings of `training` and `evaluation`: a pre-trained encoder is changed little and gently.

    Rates and passes follow Devlin et al. 2019 (appendix A.3), batches are counted in tokens.
    """
    mean = corpus.words * PIECES_A_WORD / corpus.num_texts + 2
    least = 2 * corpus.max_length
    batch_tokens = int(max(least, min(8_192 if machine.has_gpu else 2_048, 2 ** round(math.log2(24 * mean)))))
    updates = max(1, round(corpus.num_texts * mean / batch_tokens))
    epochs = 4 if pretrained else 10
    gentle = (
        {"learning_rate": 1e-4, "layer_decay": 0.9, "weight_decay": 0.01} if pretrained else {"learning_rate": 1e-3}
    )
    return {
        "training": {
            "max_epochs": epochs,
            "batch_tokens": batch_tokens,
            "schedule": "linear",
            "warmup_steps": max(1, epochs * updates // 10),
            **gentle,
        },
        "evaluation": {"every": "1 epochs", "patience": None},
    }


def masked_words_for(machine: Machine, *, pretrained: bool) -> dict[str, Any]:
    """Return the settings of `training` and `evaluation` for guessing masked words: a time that is used to its end."""
    return {
        "training": {
            "batch_tokens": 16_384 if machine.has_gpu else 4_096,
            "schedule": "linear",
            "warmup_steps": 500,
            "learning_rate": 1e-4 if pretrained else 1e-3,
            "weight_decay": 0.01,
            "label_smoothing": 0.0,
        },
        "evaluation": {"every": "500 steps", "patience": None},
    }


def generator_for(corpus: LabelledCorpus, machine: Machine, window: int) -> dict[str, Any]:
    """Return the shape of a GPT that the machine can train within hours; the less text, the more dropout."""
    layers, heads = (6, 6) if machine.has_gpu else (4, 4)
    return {
        "preset": "gpt2",
        "num_layers": layers,
        "num_heads": heads,
        "model_dim": 64 * heads,
        "feed_forward_dim": 256 * heads,
        "max_positions": window,
        "dropout": 0.2 if corpus.words < 1_000_000 else 0.1,
    }


def continuation_for(machine: Machine, *, pretrained: bool) -> dict[str, Any]:
    """Return the settings of `training` and `evaluation` for continuing texts: a time that is used to its end."""
    return {
        "training": {
            "batch_tokens": 16_384 if machine.has_gpu else 4_096,
            "schedule": "cosine",
            "warmup_steps": 200,
            "learning_rate": 1e-4 if pretrained else 1e-3,
            "weight_decay": 0.1,
            "label_smoothing": 0.0,
        },
        "evaluation": {"every": "250 steps", "patience": None},
    }


def preset_for(corpus: Corpus, machine: Machine) -> str:
    """Return the Transformer that the text can fill and the machine can train within hours."""
    if corpus.num_pairs < 200_000 or not machine.has_gpu:
        return "transformer-tiny"
    return "transformer-small" if corpus.num_pairs < 1_000_000 else "transformer-base"


def dropout_for(corpus: Corpus) -> float:
    """Return more dropout the less text there is, since the same sentences then come round more often."""
    if corpus.target_words < 1_000_000:
        return 0.3
    return 0.2 if corpus.target_words < 5_000_000 else 0.1


def vocab_size_for(corpus: Corpus) -> int:
    """Return about half the number of distinct words, in full hundreds: rare words are spelt in pieces."""
    most = 8_000 if corpus.num_pairs < 1_000_000 else 16_000
    return max(500, min(most, corpus.distinct_words // 200 * 100))


def batch_tokens_for(corpus: Corpus, machine: Machine) -> int:
    """Return a power of two that gives an epoch enough updates, and never more than the machine likes."""
    most = 16_384 if machine.has_gpu else 4_096
    tokens = corpus.target_words * PIECES_A_WORD / UPDATES_AN_EPOCH
    return int(min(most, max(512, 2 ** math.floor(math.log2(max(1.0, tokens))))))


def training_for(corpus: Corpus, machine: Machine) -> dict[str, Any]:
    """Return the settings of a recipe's sections `training` and `evaluation` that depend on sizes."""
    batch_tokens = batch_tokens_for(corpus, machine)
    # Batches are never quite full; the rest goes to padding.
    updates = max(1, round(corpus.target_words * PIECES_A_WORD / (0.85 * batch_tokens)))
    every = min(1000, max(50, math.ceil(updates / 50) * 50))
    return {
        "training": {
            "max_time": "60m",
            "batch_tokens": batch_tokens,
            "warmup_steps": min(2000, max(200, 5 * updates // 100 * 100)),
        },
        "evaluation": {"every": f"{every} steps", "average": "last-5"},
    }
