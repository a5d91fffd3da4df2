"""Learning a vocabulary from text of any amount, within a fixed amount of memory.

A corpus larger than the sample is thinned evenly: whenever the sample is full, half of its texts go, and from then on a
text is taken half as often.
"""

import io
import json
import random
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Literal, get_args

from tokenizers import AddedToken, models, processors, trainers
from tokenizers import Tokenizer as Backend

from trasluz.errors import DataError, RequestError, nearest
from trasluz.text.segmentation import (
    MARK,
    NORMALIZATIONS,
    SPECIAL_NAMES,
    build_decoder,
    build_normalizer,
    build_splitter,
    byte_piece,
    readable,
)

Kind = Literal["bpe", "unigram", "word", "character"]
KINDS: tuple[str, ...] = get_args(Kind)

SAMPLED_CHARACTERS = 64_000_000
# Characters rarer than the last ten-thousandth of the text are left to their bytes.
_COVERAGE = 0.9999
_ALWAYS_KNOWN = [MARK, *(chr(code) for code in range(0x21, 0x7F))]
# The bytes that UTF-8 uses beyond ASCII: 115 of 256. ASCII itself is always in the vocabulary as characters.
_BYTES = [byte_piece(value) for value in (*range(0x80, 0xC0), *range(0xC2, 0xF5))]
_LONGEST_PIECE = 24
_UNKNOWN = "<unk>"
# A letter or digit inside angle brackets: text is split around punctuation, so it can never yield such a piece.
_SPECIAL_FORM = re.compile(r"<[^\s<>]*[^\W_][^\s<>]*>")


def learn_vocabulary(
    texts: Iterable[str], kind: str, vocab_size: int, special_tokens: Sequence[str], normalization: str, seed: int
) -> Backend:
    """Return a trained tokenizer of the library; settings and errors are those of `train_tokenizer`."""
    _check("tokenizer kind", kind, KINDS)
    _check("normalization", normalization, NORMALIZATIONS)
    specials = _special_tokens(special_tokens)
    has_bytes = kind in ("bpe", "unigram")
    smallest = len(specials) + (len(_BYTES) + len(_ALWAYS_KNOWN) if has_bytes else 1)
    if vocab_size < smallest:
        raise RequestError(
            f"vocab_size is {vocab_size}, too small: a {kind} tokenizer with {len(specials)} special tokens "
            f"needs at least {smallest}."
        )
    normalizer = build_normalizer(normalization)
    sample = [tidy for text in sample_texts(texts, seed) if (tidy := normalizer.normalize_str(readable(text)))]
    if not sample:
        raise DataError("there is no text to train a tokenizer on: every line is empty.")
    if kind in ("word", "character"):
        model: models.Model = _whole_words(kind, sample, vocab_size, specials)
    else:
        alphabet, sample = _alphabet(sample, vocab_size - smallest)
        learn = _byte_pairs if kind == "bpe" else _unigrams
        model = learn(sample, alphabet, vocab_size - len(specials) - len(_BYTES), specials)
    backend = Backend(model)
    backend.normalizer = normalizer
    backend.pre_tokenizer = build_splitter(kind)
    backend.decoder = build_decoder(kind)
    # Whoever loads the file with `transformers` gets the end token that every model of ours was trained with.
    backend.post_processor = processors.TemplateProcessing(
        single="$A </s>", pair="$A </s> $B </s>", special_tokens=[("</s>", specials.index("</s>"))]
    )
    backend.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in specials])
    return backend


def _check(what: str, value: str, choices: Sequence[str]) -> None:
    if value not in choices:
        close = nearest(value, choices)
        hint = f"did you mean {close}?" if close else f"it is one of {', '.join(choices)}."
        raise RequestError(f"{what} {value!r} is not known: {hint}")


def _special_tokens(wanted: Sequence[str]) -> list[str]:
    for token in wanted:
        if not _SPECIAL_FORM.fullmatch(token) or token in SPECIAL_NAMES or re.fullmatch("<0x[0-9A-F]{2}>", token):
            raise RequestError(
                f"{token!r} cannot be a special token: it must look like <2es> and not be in use already."
            )
    return [*SPECIAL_NAMES, *dict.fromkeys(wanted)]


def sample_texts(texts: Iterable[str], seed: int) -> list[str]:
    """Return texts of at most SAMPLED_CHARACTERS in all, drawn evenly and in their order."""
    draw = random.Random(seed).random
    kept: list[str] = []
    size, share = 0, 1.0
    for text in texts:
        if share < 1.0 and draw() >= share:
            continue
        kept.append(text)
        size += len(text)
        while size > SAMPLED_CHARACTERS and len(kept) > 1:
            share /= 2
            kept = [text for text in kept if draw() < 0.5]
            size = sum(map(len, kept))
    return kept


def _alphabet(sample: list[str], room: int) -> tuple[list[str], list[str]]:
    """Return the characters worth an entry of their own, and the sample with the others blanked out."""
    counts: Counter[str] = Counter()
    for text in sample:
        counts.update(text)
    counts.pop(" ", None)
    always = set(_ALWAYS_KNOWN)
    left = _COVERAGE * counts.total()
    chosen: list[str] = []
    for character, count in sorted(counts.items(), key=lambda item: (-item[1], item[0])):
        if left > 0 and count > 1 and character not in always and len(chosen) < room:
            chosen.append(character)
        left -= count
    rare = counts.keys() - always - set(chosen)
    if rare:
        pattern = re.compile("[" + "".join(map(re.escape, sorted(rare))) + "]+")
        sample = [text if text.isascii() else pattern.sub(" ", text).strip() for text in sample]
    return [*_ALWAYS_KNOWN, *chosen], [text for text in sample if text]


def _whole_words(kind: str, sample: list[str], vocab_size: int, specials: list[str]) -> models.Model:
    """Return the vocabulary of the most frequent words or characters."""
    backend = Backend(models.WordLevel(unk_token=_UNKNOWN))
    backend.pre_tokenizer = build_splitter(kind)
    trainer = trainers.WordLevelTrainer(vocab_size=vocab_size, special_tokens=specials, show_progress=False)
    backend.train_from_iterator(sample, trainer)
    return models.WordLevel(backend.get_vocab(), unk_token=_UNKNOWN)


def _byte_pairs(sample: list[str], alphabet: list[str], room: int, specials: list[str]) -> models.Model:
    """Return the byte-pair encoding of at most `room` learnt pieces, the bytes set before them."""
    backend = Backend(models.BPE())
    backend.pre_tokenizer = build_splitter("bpe")
    trainer = trainers.BpeTrainer(
        vocab_size=room,
        min_frequency=2,
        initial_alphabet=alphabet,
        limit_alphabet=len(alphabet),
        max_token_length=_LONGEST_PIECE,
        show_progress=False,
    )
    backend.train_from_iterator(sample, trainer)
    learnt = json.loads(backend.to_str())["model"]
    pieces = [*specials, *_BYTES, *sorted(learnt["vocab"], key=learnt["vocab"].__getitem__)]
    vocabulary = {piece: index for index, piece in enumerate(pieces)}
    merges = [(first, second) for first, second in learnt["merges"]]
    return models.BPE(vocabulary, merges, unk_token=_UNKNOWN, byte_fallback=True)


def _unigrams(sample: list[str], alphabet: list[str], room: int, specials: list[str]) -> models.Model:
    """Return the unigram model of at most `room` learnt pieces, the bytes set before them."""
    counts = _count_stretches(sample)
    missing = set(alphabet).difference(*counts)
    pieces = _learn_scores(counts, room - len(missing)) if counts else []
    lowest = min((score for _, score in pieces), default=0.0) - 1.0
    unseen = [(character, lowest) for character in alphabet if character in missing]
    # What text cannot yield needs no score that means anything.
    unlearnt = [(name, lowest) for name in (*specials, *_BYTES)]
    return models.Unigram([*unlearnt, *pieces, *unseen], specials.index(_UNKNOWN), byte_fallback=True)


def _learn_scores(counts: dict[str, int], num_pieces: int) -> list[tuple[str, float]]:
    """Return pieces with their log-probabilities, learnt by SentencePiece from counted stretches.

    The trainer of `tokenizers` takes three times as long, and gives other scores each time.
    """
    try:
        import sentencepiece
    except ImportError:
        raise RequestError(
            "a unigram tokenizer is learnt by the package sentencepiece, which is not installed: "
            "pip install 'trasluz[sentencepiece]', or choose the kind bpe."
        ) from None
    learnt = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=(f"{stretch}\t{count}" for stretch, count in sorted(counts.items())),
        input_format="tsv",
        model_writer=learnt,
        model_type="unigram",
        vocab_size=num_pieces + 1,
        hard_vocab_limit=False,
        # Everything has been normalised and split already.
        normalization_rule_name="identity",
        add_dummy_prefix=False,
        remove_extra_whitespaces=False,
        split_by_unicode_script=False,
        split_by_number=False,
        character_coverage=1.0,
        max_sentencepiece_length=_LONGEST_PIECE,
        max_sentence_length=1 << 20,
        bos_id=-1,
        eos_id=-1,
        pad_id=-1,
        unk_id=0,
        num_threads=1,
        minloglevel=2,
    )
    model = sentencepiece.SentencePieceProcessor(model_proto=learnt.getvalue())
    # Six decimals are read back from a file exactly as they are here.
    return [(model.id_to_piece(index), round(model.get_score(index), 6)) for index in range(1, model.vocab_size())]


def _count_stretches(sample: list[str]) -> dict[str, int]:
    """Return how often each stretch that the model sees at a time comes."""
    words: Counter[str] = Counter()
    for text in sample:
        words.update(text.split(" "))
    splitter = build_splitter("unigram")
    stretches: Counter[str] = Counter()
    for word, count in words.items():
        for stretch, _ in splitter.pre_tokenize_str(word):
            stretches[stretch] += count
    return stretches
