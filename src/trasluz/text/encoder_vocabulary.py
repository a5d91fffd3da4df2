"""Learning the vocabulary of an encoder: WordPiece as BERT has it, or byte-level byte-pair encoding as RoBERTa has it.

Both are learnt by joining the most frequent pair of neighbours (Sennrich, Haddow and Birch 2016). A vocabulary of
WordPiece (Schuster and Nakajima 2012; Devlin et al. 2019) keeps the pieces without the joins, and text is cut by taking
the longest piece that fits, again and again. The same texts give the same vocabulary, to the byte.
"""

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Literal, get_args

from tokenizers import AddedToken, decoders, models, normalizers, pre_tokenizers, processors, trainers
from tokenizers import Tokenizer as Backend

from trasluz.errors import DataError, RequestError, nearest
from trasluz.text.encoder_files import bert_template
from trasluz.text.segmentation import readable
from trasluz.text.vocabulary import sample_texts

EncoderKind = Literal["wordpiece", "bpe"]
ENCODER_KINDS: tuple[str, ...] = get_args(EncoderKind)

NAMES = {"pad": "[PAD]", "unk": "[UNK]", "cls": "[CLS]", "sep": "[SEP]", "mask": "[MASK]"}
_SPECIALS = list(NAMES.values())
_CONTINUES = "##"
# Characters rarer than the last ten-thousandth of the text make their word unknown.
_COVERAGE = 0.9999
_VISIBLE = [chr(code) for code in range(0x21, 0x7F)]
_LONGEST_PIECE = 24
# A frequent word reaches the trainer in stretches of so many repetitions.
_STRETCH = 1000


def learn_encoder_vocabulary(
    texts: Iterable[str], kind: str, vocab_size: int, lowercase: bool, seed: int
) -> tuple[Backend, dict[str, str | None]]:
    """Return a trained tokenizer of the library and the names of its roles; see `train_encoder_tokenizer`."""
    if kind not in ENCODER_KINDS:
        close = nearest(kind, ENCODER_KINDS)
        hint = f"did you mean {close}?" if close else f"it is one of {', '.join(ENCODER_KINDS)}."
        raise RequestError(f"tokenizer kind {kind!r} is not known: {hint}")
    known = _known_pieces(kind, lowercase)
    smallest = len(_SPECIALS) + len(known)
    if vocab_size < smallest:
        raise RequestError(f"vocab_size is {vocab_size}, too small: a {kind} tokenizer needs at least {smallest}.")
    backend = Backend(models.WordPiece(unk_token=NAMES["unk"]) if kind == "wordpiece" else models.BPE())
    _build_steps(backend, kind, lowercase)
    words = _count_words(texts, backend, seed)
    if not words:
        raise DataError("there is no text to train a tokenizer on: every line is empty.")
    learn = _word_pieces if kind == "wordpiece" else _byte_pairs
    backend.model = learn(words, known, vocab_size)
    backend.add_special_tokens(
        [AddedToken(name, special=True, normalized=False, lstrip=_takes_blank(kind, name)) for name in _SPECIALS]
    )
    return backend, dict(NAMES)


def _takes_blank(kind: str, name: str) -> bool:
    # As in RoBERTa: the blank before a word belongs to the word, so the mask stands for both.
    return kind == "bpe" and name == NAMES["mask"]


def _known_pieces(kind: str, lowercase: bool) -> list[str]:
    """Return the pieces that are in every vocabulary: all bytes, or what ASCII can write."""
    if kind == "bpe":
        return sorted(pre_tokenizers.ByteLevel.alphabet())
    visible = [character for character in _VISIBLE if not (lowercase and character.isupper())]
    return visible + [_CONTINUES + character for character in visible if character.isalnum()]


def _build_steps(backend: Backend, kind: str, lowercase: bool) -> None:
    """Set what happens before and after the vocabulary; accents that were written apart are joined to their letters."""
    cls, sep = ((name, _SPECIALS.index(name)) for name in (NAMES["cls"], NAMES["sep"]))
    if kind == "wordpiece":
        bert = normalizers.BertNormalizer(
            clean_text=True, handle_chinese_chars=True, strip_accents=False, lowercase=lowercase
        )
        backend.normalizer = normalizers.Sequence([normalizers.NFC(), bert])
        backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        backend.decoder = decoders.WordPiece(prefix=_CONTINUES)
        backend.post_processor = bert_template(cls, sep)
    else:
        lower = [normalizers.Lowercase()] if lowercase else []
        backend.normalizer = normalizers.Sequence([normalizers.NFC(), *lower])
        # With a blank before the first word too, so that it has the pieces that it has anywhere else.
        backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
        backend.decoder = decoders.ByteLevel()
        backend.post_processor = processors.RobertaProcessing(sep, cls, trim_offsets=True, add_prefix_space=True)


def _count_words(texts: Iterable[str], backend: Backend, seed: int) -> Counter[str]:
    """Return how often each stretch that the model sees at a time comes."""
    blank_separated: Counter[str] = Counter()
    for text in sample_texts(texts, seed):
        blank_separated.update(backend.normalizer.normalize_str(readable(text)).split())
    words: Counter[str] = Counter()
    for stretch, count in blank_separated.items():
        for word, _ in backend.pre_tokenizer.pre_tokenize_str(stretch):
            words[word] += count
    return words


def _word_pieces(words: Counter[str], known: list[str], vocab_size: int) -> models.Model:
    pieces = _alphabet(words, known, vocab_size - len(_SPECIALS))
    alphabet = set(pieces)
    spelt = Counter({word: count for word, count in words.items() if alphabet.issuperset(_letters(word))})
    # Ties are broken by ids, and the trainer numbers pieces such as ##a in no fixed order: given to it as special
    # tokens, they come first and in this one.
    learnt, _ = _train(spelt, pieces, [], vocab_size - len(_SPECIALS), _CONTINUES)
    return models.WordPiece(_numbered(learnt), unk_token=NAMES["unk"])


def _byte_pairs(words: Counter[str], known: list[str], vocab_size: int) -> models.Model:
    learnt, merges = _train(words, [], known, vocab_size - len(_SPECIALS), "")
    return models.BPE(_numbered(learnt), merges)


def _numbered(pieces: list[str]) -> dict[str, int]:
    return {piece: index for index, piece in enumerate([*_SPECIALS, *pieces])}


def _train(
    words: Counter[str], first: list[str], alphabet: list[str], room: int, prefix: str
) -> tuple[list[str], list[tuple[str, str]]]:
    """Return at most `room` pieces in the order in which they were learnt, and the joins."""
    backend = Backend(models.BPE(continuing_subword_prefix=prefix))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    trainer = trainers.BpeTrainer(
        vocab_size=room,
        min_frequency=2,
        special_tokens=[AddedToken(piece, normalized=False) for piece in first],
        initial_alphabet=alphabet,
        continuing_subword_prefix=prefix,
        max_token_length=_LONGEST_PIECE,
        show_progress=False,
    )
    backend.train_from_iterator(_repeated(words), trainer)
    learnt = json.loads(backend.to_str())["model"]
    pieces = sorted(learnt["vocab"], key=learnt["vocab"].__getitem__)
    return pieces, [(left, right) for left, right in learnt["merges"]]


def _repeated(words: Counter[str]) -> Iterator[str]:
    """Yield every word as often as it was counted."""
    for word in sorted(words):
        for begin in range(0, words[word], _STRETCH):
            yield f"{word} " * min(_STRETCH, words[word] - begin)


def _letters(word: str) -> list[str]:
    """Return a word's characters as pieces: the first one bare, the others as continuing it."""
    return [word[0], *(_CONTINUES + character for character in word[1:])]


def _alphabet(words: Counter[str], known: list[str], room: int) -> list[str]:
    """Return the characters worth an entry of their own, those first that are always known."""
    counts: Counter[str] = Counter()
    for word, count in words.items():
        for letter in _letters(word):
            counts[letter] += count
    always = set(known)
    left = _COVERAGE * counts.total()
    chosen: list[str] = []
    for letter, count in sorted(counts.items(), key=lambda item: (-item[1], item[0])):
        if left > 0 and count > 1 and letter not in always and len(known) + len(chosen) < room:
            chosen.append(letter)
        left -= count
    return [*known, *chosen]
