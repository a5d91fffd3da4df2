"""The tokenizers of encoders (BERT, DistilBERT, RoBERTa, MiniLM, our own), over the `tokenizers` library.

An encoder reads whole texts between special tokens, so its tokenizer knows more than ids: where each piece stands in
the text, where words begin, and how one text or two are put between the special tokens.

    "The lamps"  --encode-->  the lamp ##s  --join-->  [CLS] the lamp ##s [SEP]
"""

import functools
import hashlib
import json
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import tokenizers
from jaxtyping import Bool, Integer
from tokenizers import processors

from trasluz.errors import RequestError
from trasluz.files import atomic_write
from trasluz.text.byte_level import edge_kinds, readable_piece, readable_words
from trasluz.text.encoder_files import (
    CONFIG,
    ROLES,
    SPECIALS,
    TOKENIZER,
    WHOLE_CLASS,
    bert_template,
    read_encoder_files,
)
from trasluz.text.encoder_template import Keep, find_template, kept_places, truncate_pair
from trasluz.text.encoder_vocabulary import learn_encoder_vocabulary
from trasluz.text.segmentation import MARK, readable, words_of_pieces

_CONTINUES = "##"
# How pieces of bytes write the blank before a word.
_BLANK = "Ġ"
# Beside `truncation_side`, which knows one side at a time.
_KEEP = "trasluz_keep"
# `transformers` writes 1e30 for "no limit".
_NO_LIMIT = 10**9


@dataclass(frozen=True, eq=False)
class EncodedText:
    """The pieces of one text, without special tokens."""

    ids: Integer[np.ndarray, " length"]
    spans: Integer[np.ndarray, "length 2"]
    """Where each piece begins and ends, in characters of the text as it was given; of its word, for `encode_words`."""
    words: Integer[np.ndarray, " length"]
    """The number of the word that each piece belongs to: of the word given, for `encode_words`."""

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, places: slice | Integer[np.ndarray, " kept"]) -> "EncodedText":
        """Return some of the pieces."""
        return EncodedText(self.ids[places], self.spans[places], self.words[places])

    def with_marks(self, text: str) -> "EncodedText":
        """Return the pieces of `text`, each up to the end of the accents behind it that are no piece's.

        Where a normaliser composes a letter and its accent, or drops the accent, a span has the letter alone.
        """
        if text.isascii() or not any(map(unicodedata.combining, text)):
            return self
        has_piece = np.zeros(len(text), bool)
        for start, end in self.spans.tolist():
            has_piece[start:end] = True
        ends = np.arange(len(text) + 1, dtype=self.spans.dtype)
        for place in range(len(text) - 1, -1, -1):
            if unicodedata.combining(text[place]) and not has_piece[place]:
                ends[place] = ends[place + 1]
        return EncodedText(self.ids, np.stack([self.spans[:, 0], ends[self.spans[:, 1]]], 1), self.words)

    @property
    def word_starts(self) -> Bool[np.ndarray, " length"]:
        """Tell of each piece whether it begins a word."""
        return np.diff(self.words, prepend=-1) != 0


_Pieces = TypeVar("_Pieces", np.ndarray, EncodedText)


class EncoderTokenizer:
    """A vocabulary with the rules and the template of an encoder; see `load` and `train_encoder_tokenizer`."""

    def __init__(
        self,
        backend: tokenizers.Tokenizer,
        names: Mapping[str, str | None],
        settings: Mapping[str, Any] | None = None,
        files: Mapping[str, bytes] | None = None,
    ) -> None:
        """Wrap a `tokenizers.Tokenizer`; `names` are those of pad, cls, sep, unk and mask, all but the last required.

        `settings` are those of tokenizer_config.json, and `files` are written by `save` as they are.
        """
        # User text never becomes a special token, however it is spelt.
        backend.encode_special_tokens = True
        backend.no_padding()
        backend.no_truncation()
        self.backend = backend
        self.kind = type(backend.model).__name__.lower()
        self.names = dict(names)
        self._settings = dict(settings or {})
        self._files = dict(files or {})
        vocabulary = backend.get_vocab(with_added_tokens=True)
        # A vocabulary may have gaps; what counts is the number of rows that a model needs.
        self.vocab_size: int = max(vocabulary.values()) + 1
        self.pad_id, self.cls_id, self.sep_id, self.unk_id = (vocabulary[names[role] or ""] for role in ROLES[:4])
        self.mask_id: int | None = vocabulary.get(names["mask"] or "")
        added = backend.get_added_tokens_decoder()
        self.special_tokens = tuple(added[index].content for index in sorted(added) if added[index].special)
        self._special_ids = frozenset(index for index in added if added[index].special)
        self._dropped_ids = self._special_ids - {self.unk_id}
        self.dtype = np.dtype(np.uint16 if self.vocab_size <= 1 << 16 else np.uint32)
        self.max_length = _limit(self._settings.get("model_max_length"))
        """How many tokens the model can take, special ones included, where the folder says so."""
        self.keep: Keep = _keep(self._settings)
        """What stays of a text that is too long."""
        template = find_template(backend)
        if template is None:
            self._add_template()
            template = find_template(backend)
        assert template is not None, "a vocabulary that encodes nothing"
        self._template = template
        content = json.loads(backend.to_str())
        steps = json.dumps([content["pre_tokenizer"], content["decoder"]])
        self._is_byte_level = '"ByteLevel"' in steps
        self._adds_blank = self._is_byte_level and '"add_prefix_space": true' in json.dumps(content["pre_tokenizer"])
        self._word_backend = self._for_words(content)
        self._mask_backend = self._for_masks(content)
        self._leaking_ids = self._find_leaks()

    def encode(self, text: str, *, with_masks: bool = False) -> EncodedText:
        """Return the pieces of a text, without special tokens; see `encode_batch`."""
        return self.encode_batch([text], with_masks=with_masks)[0]

    def encode_batch(
        self, texts: Sequence[str], *, with_masks: bool = False, like_words: bool = False
    ) -> list[EncodedText]:
        """Return the pieces of each text, without special tokens.

        With masks, the mask token's text stands for the mask, and no other special token's text does. Raises
        RequestError where the tokenizer has no mask token. `like_words` cuts the first word as `encode_words` does.
        """
        backend = self._word_backend if like_words else self.backend
        if with_masks:
            if self._mask_backend is None:
                raise RequestError("this tokenizer has no mask token, so no text can hold a mask.")
            backend = self._mask_backend
        encodings = backend.encode_batch([readable(text) for text in texts], add_special_tokens=False)
        leaking = [index for index in self._leaking_ids if not (with_masks and index == self.mask_id)]
        return [self._encoded(encoding, leaking) for encoding in encodings]

    def encode_words(self, words: Sequence[Sequence[str]]) -> list[EncodedText]:
        """Return the pieces of each text, given as its words; a word may be given that has no piece.

        `spans` count within the word. A byte-level vocabulary sees a blank before every word, the first one too.
        """
        texts = [[readable(word) for word in text] for text in words]
        encodings = self._word_backend.encode_batch(texts, is_pretokenized=True, add_special_tokens=False)
        return [self._encoded(encoding, self._leaking_ids) for encoding in encodings]

    def encode_arrays(self, texts: Sequence[str]) -> list[Integer[np.ndarray, "_"]]:
        """Return the ids of each text as an array and nothing else: what a corpus is best encoded with."""
        encodings = self.backend.encode_batch_fast([readable(text) for text in texts], add_special_tokens=False)
        return [self._ids(encoding, self._leaking_ids) for encoding in encodings]

    def join(
        self, first_ids: Sequence[int] | np.ndarray, second_ids: Sequence[int] | np.ndarray | None = None
    ) -> tuple[Integer[np.ndarray, " length"], Integer[np.ndarray, " length"]]:
        """Return the ids of one text or two among the special tokens, and the segment (token type) of each."""
        return self._template.join(self.dtype, first_ids, second_ids)

    def num_added(self, pair: bool = False) -> int:
        """Return how many special tokens `join` adds to one text, or to two."""
        return self._template.num_added(pair)

    def first_offset(self, pair: bool = False) -> int:
        """Return how many special tokens stand before the first text."""
        return self._template.offsets(pair)[0]

    def second_offset(self) -> int:
        """Return how many special tokens of a pair stand before the second text, those before the first included."""
        return self._template.offsets(True)[1]

    def cut(self, first: _Pieces, second: _Pieces | None, room: int) -> tuple[_Pieces, _Pieces | None]:
        """Return what of a text, or of a pair, fits into `room`, special tokens not counted; see `keep`."""
        if second is None:
            return first[kept_places(len(first), room, self.keep)], None
        rooms = truncate_pair(len(first), len(second), room)
        kept, also_kept = (
            text[kept_places(len(text), its_room, self.keep)]
            for text, its_room in zip((first, second), rooms, strict=True)
        )
        return kept, also_kept

    def decode(self, ids: Iterable[int] | np.ndarray) -> str:
        """Return the text of ids, special tokens dropped; an unknown piece shows by its name."""
        pieces = [self._name(index) for index in map(int, ids) if index not in self._dropped_ids]
        if not pieces or self.backend.decoder is None:
            return " ".join(pieces)
        text = str(self.backend.decoder.decode(pieces))
        return text.removeprefix(" ") if self._adds_blank else text

    def decode_batch(self, sequences: Iterable[Iterable[int] | np.ndarray]) -> list[str]:
        """Return the text of each sequence of ids."""
        return [self.decode(ids) for ids in sequences]

    def tokens(self, ids: Iterable[int] | np.ndarray) -> list[str]:
        """Return the pieces as shown to people, special tokens by their name; a blank before a word shows as ▁."""
        return [self._shown(index) for index in map(int, ids)]

    def words(self, ids: Sequence[int] | np.ndarray) -> list[tuple[str, list[int]]]:
        """Return each word as people see it with the positions of its pieces.

        Punctuation marks and special tokens are words of their own.
        """
        numbers = [int(index) for index in ids]
        pieces = [self._name(index) for index in numbers]
        is_special = [index in self._special_ids for index in numbers]
        if self._is_byte_level:
            return readable_words(pieces, is_special)
        if self.kind != "wordpiece":
            return words_of_pieces(pieces, is_special)
        found: list[tuple[str, list[int]]] = []
        for position, piece in enumerate(pieces):
            continues = piece.startswith(_CONTINUES) and len(piece) > len(_CONTINUES) and not is_special[position]
            if continues and found and not is_special[position - 1]:
                text, positions = found[-1]
                found[-1] = text + piece.removeprefix(_CONTINUES), [*positions, position]
            else:
                found.append((piece, [position]))
        return found

    def word_groups(self, ids: Sequence[int] | np.ndarray) -> list[list[int]]:
        """Return, for each word of `words`, the positions of its pieces."""
        return [positions for _, positions in self.words(ids)]

    def id_of(self, token: str) -> int | None:
        """Return the id of a piece or special token, or None when the vocabulary has no such entry."""
        found: int | None = self.backend.token_to_id(token)
        return found

    def word_starts(self, ids: Integer[np.ndarray, " length"]) -> Bool[np.ndarray, " length"]:
        """Tell of each piece of a text whether it begins a word, and does not go on with one as ##ing does.

        Where pieces write the blank before a word, those that do begin one; pieces of bytes also where a sign or a line
        end meets a letter: text may be written without blanks.
        """
        starts = self._begins[ids]
        if self._is_byte_level:
            first, last = self._edges
            kind, kind_before = first[ids[1:]], last[ids[:-1]]
            starts[1:] |= (kind != kind_before) & (kind > 0) & (kind_before > 0)
        return starts

    @property
    def adds_blank_to_words(self) -> bool:
        """Whether `encode_words` cuts the first word otherwise than `encode`: with a blank before it."""
        return self._word_backend is not self.backend

    @functools.cached_property
    def _begins(self) -> Bool[np.ndarray, " vocab"]:
        names = [self._name(index) for index in range(self.vocab_size)]
        begins = [
            self.kind != "wordpiece" and name.startswith(_BLANK if self._is_byte_level else MARK) for name in names
        ]
        if not any(begins):
            begins = [not name.startswith(_CONTINUES) or len(name) == len(_CONTINUES) for name in names]
        return np.array(begins) | np.isin(np.arange(self.vocab_size), list(self._special_ids))

    @functools.cached_property
    def _edges(self) -> Integer[np.ndarray, "2 vocab"]:
        return np.array([edge_kinds(self._name(index)) for index in range(self.vocab_size)], np.int8).T

    @property
    def fingerprint(self) -> str:
        """Return a digest that is equal exactly for tokenizers that cut every text alike and name the same roles."""
        content = self.backend.to_str() + json.dumps(self.names, sort_keys=True)
        return hashlib.sha256(content.encode()).hexdigest()

    def save(self, folder: str | Path, prefix: str = "") -> None:
        """Write the tokenizer files that `transformers` loads; with a prefix, under names that only trasluz loads.

        Files which were read are written as they were.
        """
        settings = self._current_settings()
        names = {f"{role}_token": name for role, name in self.names.items() if name is not None}
        files = {TOKENIZER: self.backend.to_str(pretty=True).encode() + b"\n", SPECIALS: _json(names), **self._files}
        if CONFIG not in files or json.loads(files[CONFIG]) != settings:
            files[CONFIG] = _json(settings)
        for name, content in files.items():
            with atomic_write(Path(folder) / f"{prefix}{name}") as file:
                file.write(content)

    @classmethod
    def load(cls, folder: str | Path, prefix: str = "") -> "EncoderTokenizer":
        """Read a tokenizer from its folder: tokenizer.json, or vocab.txt, or vocab.json with merges.txt.

        Raises ModelError, naming the file, where one is missing or broken.
        """
        found = read_encoder_files(folder, prefix)
        return cls(found.backend, found.names, found.settings, found.files)

    def __reduce__(self) -> tuple[Any, ...]:
        # The library's own copies forget that text is never to become a special token.
        return EncoderTokenizer, (self.backend, self.names, self._current_settings(), self._files)

    def _encoded(self, encoding: tokenizers.Encoding, leaking: list[int]) -> EncodedText:
        spans = np.array(encoding.offsets, np.int32).reshape(-1, 2)
        return EncodedText(self._ids(encoding, leaking), spans, np.array(encoding.word_ids, np.int32))

    def _ids(self, encoding: tokenizers.Encoding, leaking: list[int]) -> Integer[np.ndarray, "_"]:
        ids = np.array(encoding.ids, self.dtype)
        if leaking:
            ids[np.isin(ids, leaking)] = self.unk_id
        return ids

    def _find_leaks(self) -> list[int]:
        """Return special ids that text can still become: where text is cut at blanks only, any entry can be a word."""
        texts = [form.format(name) for name in self.special_tokens for form in ("{}", "a {} a")]
        encodings = self.backend.encode_batch(texts, add_special_tokens=False)
        seen = {index for encoding in encodings for index in encoding.ids}
        return sorted(self._dropped_ids & seen)

    def _current_settings(self) -> dict[str, Any]:
        """Return the settings to write: the ones that were read, with what has been set since."""
        settings = self._settings or {
            "tokenizer_class": WHOLE_CLASS,
            **{f"{role}_token": name for role, name in self.names.items() if name is not None},
            "clean_up_tokenization_spaces": False,
            # Without being told, `transformers` gives no segments.
            "model_input_names": ["input_ids", "token_type_ids", "attention_mask"],
        }
        if self.max_length != _limit(settings.get("model_max_length")):
            settings = settings | {"model_max_length": self.max_length}
        if self.keep != _keep(settings):
            settings = {key: settings[key] for key in settings if key != _KEEP}
            settings["truncation_side"] = "left" if self.keep == "end" else "right"
            if self.keep == "ends":
                settings[_KEEP] = self.keep
        return settings

    def _add_template(self) -> None:
        """Give a tokenizer that adds no special tokens the template of BERT."""
        cls, sep = (str(self.names[role]) for role in ("cls", "sep"))
        template = bert_template((cls, self.cls_id), (sep, self.sep_id))
        before = self.backend.post_processor
        self.backend.post_processor = template if before is None else processors.Sequence([before, template])
        self._files.pop(TOKENIZER, None)

    def _for_words(self, content: dict[str, Any]) -> tokenizers.Tokenizer:
        """Return the backend for text that is cut into words: each word has its blank before it."""
        if not self._is_byte_level or self._adds_blank:
            return self.backend
        steps = json.dumps([content["pre_tokenizer"], content["post_processor"]])
        before, after = json.loads(steps.replace('"add_prefix_space": false', '"add_prefix_space": true'))
        backend = tokenizers.Tokenizer.from_str(
            json.dumps(content | {"pre_tokenizer": before, "post_processor": after})
        )
        backend.encode_special_tokens = True
        return backend

    def _for_masks(self, content: dict[str, Any]) -> tokenizers.Tokenizer | None:
        """Return the backend for text with masks: there the mask is an ordinary token, so that text can become it."""
        if self.mask_id is None:
            return None
        added = [
            token | {"special": token["special"] and token["id"] != self.mask_id} for token in content["added_tokens"]
        ]
        backend = tokenizers.Tokenizer.from_str(json.dumps(content | {"added_tokens": added}))
        backend.encode_special_tokens = True
        return backend

    def _name(self, index: int) -> str:
        piece: str | None = self.backend.id_to_token(index)
        # A model may have more output rows than the vocabulary has entries.
        return str(self.names["unk"]) if piece is None else piece

    def _shown(self, index: int) -> str:
        name = self._name(index)
        return readable_piece(name) if self._is_byte_level and index not in self._special_ids else name


def train_encoder_tokenizer(
    texts: Iterable[str],
    kind: str = "wordpiece",
    vocab_size: int = 8000,
    *,
    lowercase: bool = True,
    seed: int = 1,
) -> EncoderTokenizer:
    """Train a tokenizer of at most `vocab_size` entries; fewer where the text gives no more.

    Kinds: "wordpiece" in BERT's manner, byte-level "bpe" in RoBERTa's. Ids: [PAD] 0, [UNK] 1, [CLS] 2, [SEP] 3, [MASK]
    4, then pieces. Accents stay, in lower case too. Raises RequestError for an impossible setting and DataError where
    there is no text.
    """
    backend, names = learn_encoder_vocabulary(texts, kind, vocab_size, lowercase, seed)
    return EncoderTokenizer(backend, names)


def _limit(entry: Any) -> int | None:
    """Return a stated length, or None for none and for the huge number that means none."""
    return int(entry) if isinstance(entry, int | float) and 0 < entry < _NO_LIMIT else None


def _keep(settings: Mapping[str, Any]) -> Keep:
    if settings.get(_KEEP) == "ends":
        return "ends"
    return "end" if settings.get("truncation_side") == "left" else "start"


def _json(content: dict[str, Any]) -> bytes:
    return json.dumps(content, ensure_ascii=False, indent=2).encode() + b"\n"
