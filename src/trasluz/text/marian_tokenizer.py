"""The tokenizers of a Marian model: two SentencePiece models that cut, and a vocabulary that numbers.

    source.spm  target.spm      SentencePiece models (Kudo and Richardson 2018), one a side
    vocab.json                  piece -> id, for both sides; a piece that is not in it is unknown
    target_vocab.json           that of the target side, where the sides have vocabularies of their own

A Marian model has no begin token: its decoder starts with the padding id.
"""

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Integer

from trasluz.errors import ModelError
from trasluz.files import atomic_write
from trasluz.text.segmentation import MARK, readable, words_of_pieces
from trasluz.text.tokenizer_settings import parse_object, token_name

_SPM = {"source": "source.spm", "target": "target.spm"}
_VOCABULARY, _TARGET_VOCABULARY, _CONFIG = "vocab.json", "target_vocab.json", "tokenizer_config.json"


class MarianTokenizer:
    """One side of a Marian model's tokenizers, with the methods of `Tokenizer`; `target` is the other side."""

    kind = "sentencepiece"
    normalization = None

    def __init__(self, model: Any, vocabulary: dict[str, int], names: dict[str, str], files: dict[str, bytes]) -> None:
        """Join a SentencePiece model and a vocabulary; `names` are those of pad, eos and unk. Use `load`."""
        self._model = model
        self._files = files
        self._pieces = {index: piece for piece, index in vocabulary.items()}
        self.vocab_size = len(vocabulary)
        self.pad_id, self.eos_id, self.unk_id = (vocabulary[names[role]] for role in ("pad", "eos", "unk"))
        self.bos_id = self.pad_id
        self.language_codes = tuple(name for name in vocabulary if name.startswith(">>") and name.endswith("<<"))
        """Tokens such as >>es<< that a model of many languages wants before the source."""
        self.special_tokens = (names["pad"], names["eos"], names["unk"], *self.language_codes)
        self._vocabulary = vocabulary
        # Special tokens are left out: user text never becomes one, however it is spelt.
        self._ids = {piece: index for piece, index in vocabulary.items() if piece not in self.special_tokens}
        self._special_ids = frozenset(vocabulary[name] for name in self.special_tokens)
        self.target = self

    def encode(self, text: str) -> list[int]:
        """Return the ids of a text of this side, without special tokens."""
        return self.encode_batch([text])[0]

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the ids of each text of this side, without special tokens."""
        found, unknown = self._ids.get, self.unk_id
        cut = self._model.encode([readable(text) for text in texts], out_type=str)
        return [[found(piece, unknown) for piece in pieces] for pieces in cut]

    def encode_arrays(self, texts: Sequence[str]) -> list[Integer[np.ndarray, "_"]]:
        """Return the ids of each text of this side as an array."""
        return [np.array(ids, np.uint32) for ids in self.encode_batch(texts)]

    def encode_target(self, text: str) -> list[int]:
        """Return the ids of a text of the target side."""
        return self.target.encode(text)

    def decode(self, ids: Iterable[int]) -> str:
        """Return the text of ids, special tokens and unknown pieces dropped, as `transformers` does."""
        pieces = [self._name(index) for index in ids if index not in self._special_ids]
        return str(self._model.decode_pieces(pieces)).replace(MARK, " ").strip()

    def decode_batch(self, sequences: Iterable[Iterable[int]]) -> list[str]:
        """Return the text of each sequence of ids."""
        return [self.decode(ids) for ids in sequences]

    def tokens(self, ids: Iterable[int]) -> list[str]:
        """Return the pieces as shown to people, special tokens by their name."""
        return [self._name(index) for index in ids]

    def words(self, ids: Sequence[int]) -> list[tuple[str, list[int]]]:
        """Return each word as people see it with the positions of its pieces."""
        return words_of_pieces(self.tokens(ids), [index in self._special_ids for index in ids])

    def word_groups(self, ids: Sequence[int]) -> list[list[int]]:
        """Return, for each word of `words`, the positions of its pieces."""
        return [positions for _, positions in self.words(ids)]

    def id_of(self, token: str) -> int | None:
        """Return the id of a piece or special token, or None when the vocabulary has no such entry."""
        return self._vocabulary.get(token)

    def normalize(self, text: str) -> str:
        """Return the text as the SentencePiece model sees it."""
        return str(self._model.normalize(readable(text))).replace(MARK, " ").strip()

    @property
    def has_two_vocabularies(self) -> bool:
        """Tell whether the target side numbers its pieces otherwise than this one."""
        return self._vocabulary is not self.target._vocabulary

    @property
    def fingerprint(self) -> str:
        """Return a digest that is equal exactly for tokenizers made of the same files."""
        digest = hashlib.sha256()
        for name in sorted(self._files):
            digest.update(f"{name} {len(self._files[name])}\n".encode() + self._files[name])
        return digest.hexdigest()

    def save(self, folder: str | Path, prefix: str = "") -> None:
        """Write the files of both sides as they were read; a prefix changes nothing, since each side has its names."""
        for name, content in self._files.items():
            with atomic_write(Path(folder) / name) as file:
                file.write(content)

    @classmethod
    def load(cls, folder: str | Path) -> "MarianTokenizer":
        """Read a Marian folder; the source side is returned, and the other is its `target`.

        Raises ModelError, naming the file, where one is missing or broken.
        """
        folder = Path(folder)
        files = {name: _read(folder / name) for name in (*_SPM.values(), _VOCABULARY)}
        for name in (_TARGET_VOCABULARY, _CONFIG, "special_tokens_map.json"):
            if (folder / name).exists():
                files[name] = _read(folder / name)
        config = parse_object(folder / _CONFIG, files[_CONFIG]) if _CONFIG in files else {}
        stated = {role: token_name(config.get(f"{role}_token")) for role in _USUAL_NAMES}
        names = _USUAL_NAMES | {role: name for role, name in stated.items() if name is not None}
        separate = bool(config.get("separate_vocabs")) and _TARGET_VOCABULARY in files
        vocabularies = {
            "source": _vocabulary(folder / _VOCABULARY, files[_VOCABULARY], names),
            "target": _vocabulary(folder / _TARGET_VOCABULARY, files[_TARGET_VOCABULARY], names) if separate else None,
        }
        source, target = (
            cls(
                _sentencepiece(folder / _SPM[side], files[_SPM[side]]),
                vocabulary or vocabularies["source"] or {},
                names,
                files,
            )
            for side, vocabulary in vocabularies.items()
        )
        source.target = target
        return source

    def _name(self, index: int) -> str:
        # A model may have more output rows than the vocabulary has entries.
        return self._pieces.get(int(index)) or self._pieces[self.unk_id]


_USUAL_NAMES = {"pad": "<pad>", "eos": "</s>", "unk": "<unk>"}


def _sentencepiece(path: Path, content: bytes) -> Any:
    try:
        import sentencepiece
    except ImportError:
        raise ModelError(
            f"{path} needs the package sentencepiece to be read: pip install 'trasluz[sentencepiece]'."
        ) from None
    model = sentencepiece.SentencePieceProcessor()
    try:
        model.load_from_serialized_proto(content)
    except (RuntimeError, OSError, ValueError, TypeError) as error:
        raise ModelError(f"{path} is no SentencePiece model that can be read: {error}") from None
    return model


def _vocabulary(path: Path, content: bytes, names: dict[str, str]) -> dict[str, int]:
    vocabulary = parse_object(path, content)
    if not all(isinstance(index, int) and index >= 0 for index in vocabulary.values()):
        raise ModelError(f'{path} is no vocabulary: an id for each piece was expected, as in {{"</s>": 0}}.')
    for role, name in names.items():
        if name not in vocabulary:
            raise ModelError(f"{path} has no entry {name!r}, the {role} token of this tokenizer.")
    return vocabulary


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise ModelError(
            f"{path} is missing: a Marian tokenizer has {', '.join((*_SPM.values(), _VOCABULARY))}."
        ) from None
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error.strerror}.") from None
