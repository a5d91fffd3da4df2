"""Tokenizers: text to integer ids and back, over the `tokenizers` library and in its file format.

Byte-pair encoding (Sennrich, Haddow and Birch 2016), unigram (Kudo 2018), whole words, characters. With "bpe" and
"unigram", decode(encode(text)) is the normalised text for every text: a character outside the vocabulary is written as
its UTF-8 bytes. "word" and "character" know only what they have seen; the rest is <unk>.
"""

import hashlib
import json
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tokenizers
from jaxtyping import Integer

from trasluz.errors import ModelError
from trasluz.files import atomic_write
from trasluz.text.segmentation import MARK, SPECIAL_NAMES, readable, unescape, words_of_pieces
from trasluz.text.tokenizer_settings import parse_object, token_name
from trasluz.text.vocabulary import learn_vocabulary

_ROLES = ("pad_token", "bos_token", "eos_token", "unk_token")

# Words met lately, with their ids: text repeats itself, and a dictionary is faster than cutting again.
_KNOWN_WORDS = 1 << 18
_KNOWN_WORD_LENGTH = 32


class Tokenizer:
    """A vocabulary with the rules that cut text into its pieces; see `train_tokenizer` and `Tokenizer.load`."""

    def __init__(
        self,
        backend: tokenizers.Tokenizer,
        kind: str,
        normalization: str | None,
        special_names: Sequence[str] = SPECIAL_NAMES,
    ) -> None:
        """Wrap a `tokenizers.Tokenizer`; `special_names` are those of pad, begin, end and unknown.

        `normalization` is None where the rules are not ours; such a tokenizer is used as it is.
        """
        # User text never becomes a special token, however it is spelt.
        backend.encode_special_tokens = True
        backend.no_padding()
        backend.no_truncation()
        self.backend = backend
        self.kind = kind
        self.normalization = normalization
        self.vocab_size: int = backend.get_vocab_size(with_added_tokens=True)
        self.special_names = tuple(special_names)
        self.pad_id, self.bos_id, self.eos_id, self.unk_id = map(self._required_id, special_names)
        added = backend.get_added_tokens_decoder()
        self.special_tokens = tuple(added[index].content for index in sorted(added) if added[index].special)
        self._special_ids = frozenset(index for index in added if added[index].special)
        self._dropped_ids = self._special_ids - {self.unk_id}
        self.dtype = np.dtype(np.uint16 if self.vocab_size <= 1 << 16 else np.uint32)
        self._word_backend = self._without_normalizer() if normalization and kind != "character" else None
        self._words = _Words(self._cut, {})

    def encode(self, text: str) -> list[int]:
        """Return the ids of a text, without special tokens."""
        return self.encode_batch([text])[0]

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the ids of each text, without special tokens."""
        return [ids.tolist() for ids in self.encode_arrays(texts)]

    def encode_arrays(self, texts: Sequence[str]) -> list[Integer[np.ndarray, "_"]]:
        """Return the ids of each text as an array: what a corpus is best encoded with."""
        if self._word_backend is None:
            encodings = self.backend.encode_batch_fast([readable(text) for text in texts], add_special_tokens=False)
            return [np.array(encoding.ids, self.dtype) for encoding in encodings]
        words = self._words
        encoded = [b"".join(map(words.__getitem__, self._tidy(text).split(" "))) for text in texts]
        if len(words) > _KNOWN_WORDS:
            # Those that nobody asks for any more are forgotten; replaced, not cleared: another thread may be reading.
            self._words = _Words(words.cut, words)
        return [np.frombuffer(ids, self.dtype) for ids in encoded]

    def _cut(self, word: str) -> bytes:
        """Return the ids of a tidy word, as the bytes of an array."""
        assert self._word_backend is not None
        ids = self._word_backend.encode(word, add_special_tokens=False).ids
        return np.array(ids, self.dtype).tobytes()

    def decode(self, ids: Iterable[int]) -> str:
        """Return the text of ids, special tokens dropped; an unknown word shows as <unk>."""
        pieces = [self._piece(index) for index in ids if index not in self._dropped_ids]
        return str(self.backend.decoder.decode(pieces)) if pieces else ""

    def decode_batch(self, sequences: Iterable[Iterable[int]]) -> list[str]:
        """Return the text of each sequence of ids."""
        return [self.decode(ids) for ids in sequences]

    def tokens(self, ids: Iterable[int]) -> list[str]:
        """Return the pieces as shown to people, special tokens by their name."""
        return [self._name(index) for index in ids]

    def words(self, ids: Sequence[int]) -> list[tuple[str, list[int]]]:
        """Return each word as people see it with the positions of its pieces.

        Punctuation marks and special tokens are words of their own.
        """
        return words_of_pieces(self.tokens(ids), [index in self._special_ids for index in ids])

    def word_groups(self, ids: Sequence[int]) -> list[list[int]]:
        """Return, for each word of `words`, the positions of its pieces."""
        return [positions for _, positions in self.words(ids)]

    def id_of(self, token: str) -> int | None:
        """Return the id of a piece or special token, or None when the vocabulary has no such entry."""
        found: int | None = self.backend.token_to_id(token)
        return found

    def normalize(self, text: str) -> str:
        """Return the text as `decode(encode(text))` gives it back."""
        return unescape(self._tidy(text)) if self.normalization else text

    @property
    def fingerprint(self) -> str:
        """Return a digest that is equal exactly for tokenizers that cut every text alike."""
        return hashlib.sha256(self.backend.to_str().encode()).hexdigest()

    def save(self, folder: str | Path, prefix: str = "") -> None:
        """Write the tokenizer files that `transformers` loads; with a prefix, under names that only trasluz loads."""
        folder = Path(folder)
        names = dict(zip(_ROLES, self.special_names, strict=True))
        others = [token for token in self.special_tokens if token not in self.special_names]
        config = {
            "tokenizer_class": "PreTrainedTokenizerFast",
            **names,
            "additional_special_tokens": others,
            "clean_up_tokenization_spaces": False,
            "split_special_tokens": True,
            "trasluz": {"kind": self.kind, "normalization": self.normalization},
        }
        files = {
            "tokenizer.json": self.backend.to_str(pretty=True),
            "tokenizer_config.json": json.dumps(config, ensure_ascii=False, indent=2),
            "special_tokens_map.json": json.dumps({**names, "additional_special_tokens": others}, indent=2),
        }
        for name, content in files.items():
            with atomic_write(folder / f"{prefix}{name}") as file:
                file.write(content.encode() + b"\n")

    @classmethod
    def load(cls, folder: str | Path, prefix: str = "") -> "Tokenizer":
        """Read a tokenizer from its folder: one that `save` wrote, or any tokenizer.json with its four special tokens.

        Raises ModelError, naming the file, where one is missing or broken.
        """
        path = Path(folder) / f"{prefix}tokenizer.json"
        config_path = Path(folder) / f"{prefix}tokenizer_config.json"
        config = _read_json(config_path)
        try:
            backend = tokenizers.Tokenizer.from_str(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise ModelError(f"{path} is missing: a tokenizer needs {path.name} and {config_path.name}.") from None
        except Exception as error:  # The library raises bare Exception for whatever is wrong inside the file.
            raise ModelError(f"{path} is not a tokenizer file that can be read: {error}") from None
        names = [token_name(config.get(role)) for role in _ROLES]
        for role, name in zip(_ROLES, names, strict=True):
            if name is None or backend.token_to_id(name) is None:
                raise ModelError(
                    f"{config_path}: {role} is {name!r}, which is no entry of the vocabulary in {path.name}."
                )
        ours = config.get("trasluz") or {}
        kind = ours.get("kind") or type(backend.model).__name__.lower()
        return cls(backend, kind, ours.get("normalization"), [name for name in names if name is not None])

    def __reduce__(self) -> tuple[Any, ...]:
        # The library's own copies forget that text is never to become a special token.
        return Tokenizer, (self.backend, self.kind, self.normalization, self.special_names)

    def _tidy(self, text: str) -> str:
        """Return the normalised text with literal marks escaped."""
        # Most text is tidy already, and Python sees that faster than the normaliser would rewrite it.
        if (
            self.normalization == "nfc"
            and text.isprintable()
            and "  " not in text
            and not text.startswith(" ")
            and not text.endswith(" ")
            and (text.isascii() or (MARK not in text and unicodedata.is_normalized("NFC", text)))
        ):
            return text
        return str(self.backend.normalizer.normalize_str(readable(text)))

    def _required_id(self, name: str) -> int:
        found = self.id_of(name)
        assert found is not None, f"a vocabulary without {name}"
        return found

    def _without_normalizer(self) -> tokenizers.Tokenizer:
        content = json.loads(self.backend.to_str())
        content["normalizer"] = None
        backend = tokenizers.Tokenizer.from_str(json.dumps(content))
        backend.encode_special_tokens = True
        return backend

    def _name(self, index: int) -> str:
        piece: str | None = self.backend.id_to_token(int(index))
        # A model may have more output rows than the vocabulary has entries.
        return self.special_names[3] if piece is None else piece

    def _piece(self, index: int) -> str:
        name = self._name(index)
        return MARK + name if name == self.special_names[3] and self.kind == "word" else name


class _Words(dict[str, bytes]):
    """The ids of words met lately; a word's pieces do not depend on its neighbours, so each is cut only once."""

    def __init__(self, cut: Callable[[str], bytes], before: dict[str, bytes]) -> None:
        super().__init__()
        self.cut = cut
        # Without its own `before`, or every one that ever was would live on.
        self.before = dict(before)

    def __missing__(self, word: str) -> bytes:
        ids = self.before.get(word)
        if ids is None:
            ids = self.cut(word)
        if len(word) <= _KNOWN_WORD_LENGTH:
            self[word] = ids
        return ids


def train_tokenizer(
    texts: Iterable[str],
    kind: str = "bpe",
    vocab_size: int = 8000,
    *,
    special_tokens: Sequence[str] = (),
    normalization: str = "nfc",
    seed: int = 1,
) -> Tokenizer:
    """Train a tokenizer of at most `vocab_size` entries; fewer where the text gives no more.

    Kinds: "bpe", "unigram", "word", "character". Ids: <pad> 0, <s> 1, </s> 2, <unk> 3, then `special_tokens` such as
    "<2es>", then pieces. Raises RequestError for an impossible setting and DataError where there is no text.
    """
    backend = learn_vocabulary(texts, kind, vocab_size, special_tokens, normalization, seed)
    return Tokenizer(backend, kind, normalization)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ModelError(f"{path} is missing: a tokenizer needs tokenizer.json and tokenizer_config.json.") from None
    except (OSError, ValueError) as error:
        raise ModelError(f"{path} cannot be read: {error}") from None
    return parse_object(path, content, "; the tokenizer's settings were expected")
