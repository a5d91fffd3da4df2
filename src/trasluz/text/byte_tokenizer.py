"""Byte-level byte-pair encoding (Radford et al. 2019, section 2.2): any text becomes ids and comes back to the byte.

    tokenizer.json                    the whole tokenizer in the format of `tokenizers`
    vocab.json, merges.txt            the vocabulary, and which pairs of pieces are joined, in order
    tokenizer_config.json             settings and the names of special tokens; may be missing
    special_tokens_map.json           the names again, in older folders; may be missing

Nothing is added before or behind a text, as it is to be continued. A text never becomes a special token, however it is
spelt.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tokenizers
from jaxtyping import Integer
from tokenizers import AddedToken, decoders, models, pre_tokenizers

from trasluz.errors import ModelError
from trasluz.files import atomic_write
from trasluz.text.byte_level import piece_bytes, readable_piece, readable_words
from trasluz.text.segmentation import readable
from trasluz.text.tokenizer_settings import parse_object, token_name

TOKENIZER, CONFIG, SPECIALS = "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"
_VOCABULARY, _MERGES = "vocab.json", "merges.txt"
_FILES = (TOKENIZER, CONFIG, SPECIALS, _VOCABULARY, _MERGES)
_USUAL_END = "<|endoftext|>"


class ByteTokenizer:
    """A vocabulary of bytes and what they were joined to; see `load`."""

    def __init__(
        self,
        backend: tokenizers.Tokenizer,
        settings: Mapping[str, Any] | None = None,
        files: Mapping[str, bytes] | None = None,
    ) -> None:
        """Wrap a `tokenizers.Tokenizer`, whose post-processor is left out.

        `settings` are those of tokenizer_config.json, and `files` are written by `save` as they are.
        """
        backend.encode_special_tokens = True
        backend.no_padding()
        backend.no_truncation()
        self.backend = backend
        self._settings = dict(settings or {})
        self._files = dict(files or {})
        vocabulary = backend.get_vocab(with_added_tokens=True)
        # A vocabulary may have gaps; what counts is the number of rows that a model needs.
        self.vocab_size: int = max(vocabulary.values()) + 1
        added = backend.get_added_tokens_decoder()
        self.special_tokens = tuple(added[index].content for index in sorted(added) if added[index].special)
        self._special_ids = frozenset(index for index in added if added[index].special)
        names = (token_name(self._settings.get("eos_token")), _USUAL_END)
        self.end_id: int | None = next((vocabulary[name] for name in names if name in vocabulary), None)
        """The token between documents, where the folder names one."""
        self.dtype = np.dtype(np.uint16 if self.vocab_size <= 1 << 16 else np.uint32)

    def encode(self, text: str) -> list[int]:
        """Return the ids of a text; half a surrogate pair becomes U+FFFD."""
        return self.encode_batch([text])[0]

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the ids of each text."""
        encodings = self.backend.encode_batch_fast([readable(text) for text in texts], add_special_tokens=False)
        return [encoding.ids for encoding in encodings]

    def encode_arrays(self, texts: Sequence[str]) -> list[Integer[np.ndarray, "_"]]:
        """Return the ids of each text as an array."""
        return [np.asarray(ids, self.dtype) for ids in self.encode_batch(texts)]

    def bytes_of(self, index: int) -> bytes:
        """Return what an id stands for; special tokens, and ids that the vocabulary has not, stand for nothing."""
        piece = None if index in self._special_ids else self.backend.id_to_token(index)
        return b"" if piece is None else piece_bytes(piece)

    def decode(self, ids: Iterable[int] | np.ndarray) -> str:
        """Return the text of ids, special tokens dropped; a byte that is no whole character becomes U+FFFD."""
        return b"".join(map(self.bytes_of, map(int, ids))).decode("utf-8", "replace")

    def decode_batch(self, sequences: Iterable[Iterable[int] | np.ndarray]) -> list[str]:
        """Return the text of each sequence of ids."""
        return [self.decode(ids) for ids in sequences]

    def tokens(self, ids: Iterable[int] | np.ndarray) -> list[str]:
        """Return the pieces as shown to people, special tokens by their name; a blank shows as ▁."""
        names = [(index, self._name(index)) for index in map(int, ids)]
        return [name if index in self._special_ids else readable_piece(name) for index, name in names]

    def words(self, ids: Sequence[int] | np.ndarray) -> list[tuple[str, list[int]]]:
        """Return each word as people see it with the positions of its pieces; special tokens are words."""
        numbers = [int(index) for index in ids]
        return readable_words(
            [self._name(index) for index in numbers], [index in self._special_ids for index in numbers]
        )

    def word_groups(self, ids: Sequence[int] | np.ndarray) -> list[list[int]]:
        """Return, for each word of `words`, the positions of its pieces."""
        return [positions for _, positions in self.words(ids)]

    def id_of(self, token: str) -> int | None:
        """Return the id of a piece or special token, or None when the vocabulary has no such entry."""
        found: int | None = self.backend.token_to_id(token)
        return found

    @property
    def fingerprint(self) -> str:
        """Return a digest that is equal exactly for tokenizers that cut every text alike."""
        return hashlib.sha256(self.backend.to_str().encode()).hexdigest()

    def save(self, folder: str | Path, prefix: str = "") -> None:
        """Write the tokenizer files that `transformers` loads; those which were read are written as they were."""
        settings = self._settings or {"tokenizer_class": "GPT2Tokenizer", **self._end_names()}
        files = {
            TOKENIZER: self.backend.to_str(pretty=True).encode() + b"\n",
            CONFIG: _json(settings),
            **self._files,
        }
        for name, content in files.items():
            with atomic_write(Path(folder) / f"{prefix}{name}") as file:
                file.write(content)

    @classmethod
    def load(cls, folder: str | Path, prefix: str = "") -> "ByteTokenizer":
        """Read a tokenizer from its folder: tokenizer.json, or vocab.json with merges.txt.

        Raises ModelError, naming the file, where one is missing, broken, or of another kind.
        """
        paths = {name: Path(folder) / f"{prefix}{name}" for name in _FILES}
        files = {name: _read(path) for name, path in paths.items() if path.exists()}
        settings, names = (
            parse_object(paths[name], files[name]) if name in files else {} for name in (CONFIG, SPECIALS)
        )
        settings = {key: value for key, value in names.items() if key not in settings} | settings
        if TOKENIZER in files:
            return cls(_whole(paths[TOKENIZER], files[TOKENIZER]), settings, files)
        if _VOCABULARY not in files or _MERGES not in files:
            missing = paths[TOKENIZER] if _VOCABULARY not in files else paths[_MERGES]
            raise ModelError(
                f"{missing} is missing: the tokenizer of a model that continues texts is {TOKENIZER}, or "
                f"{_VOCABULARY} with {_MERGES}."
            )
        return cls(_put_together(paths, settings), settings, files)

    def _name(self, index: int) -> str:
        piece: str | None = self.backend.id_to_token(index)
        # A model may have more output rows than the vocabulary has entries.
        return f"<{index}>" if piece is None else piece

    def _end_names(self) -> dict[str, Any]:
        if self.end_id is None:
            return {}
        return dict.fromkeys(("bos_token", "eos_token", "unk_token"), self._name(self.end_id))


def _whole(path: Path, content: bytes) -> tokenizers.Tokenizer:
    """Return the tokenizer of a tokenizer.json; ModelError unless it is one of bytes."""
    try:
        backend = tokenizers.Tokenizer.from_str(content.decode())
        steps = json.loads(content)
    except Exception as error:  # The library raises bare Exception for whatever is wrong inside a file.
        raise ModelError(f"{path} is not a tokenizer file that can be read: {error}") from None
    if not isinstance(backend.model, models.BPE) or '"ByteLevel"' not in json.dumps(steps["decoder"]):
        raise ModelError(
            f"{path} is no byte-level BPE, but a {type(backend.model).__name__} with another decoder or none; texts "
            "can be continued with byte-level BPE only."
        )
    if backend.normalizer is not None:
        raise ModelError(f"{path} changes texts before it cuts them (normalizer), so that they would not come back.")
    return backend


def _put_together(paths: Mapping[str, Path], settings: Mapping[str, Any]) -> tokenizers.Tokenizer:
    """Return the tokenizer of vocab.json and merges.txt, as `transformers` puts it together."""
    try:
        vocabulary, merges = models.BPE.read_file(str(paths[_VOCABULARY]), str(paths[_MERGES]))
        backend = tokenizers.Tokenizer(models.BPE(vocabulary, merges, fuse_unk=False))
    except Exception as error:
        raise ModelError(f"{paths[_VOCABULARY]} with {_MERGES} is not a tokenizer that can be read: {error}") from None
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=bool(settings.get("add_prefix_space", False)))
    backend.decoder = decoders.ByteLevel()
    end = token_name(settings.get("eos_token")) or _USUAL_END
    if end in vocabulary:
        backend.add_special_tokens([AddedToken(end, special=True, normalized=False)])
    return backend


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error.strerror}.") from None


def _json(content: dict[str, Any]) -> bytes:
    return json.dumps(content, ensure_ascii=False, indent=2).encode() + b"\n"
