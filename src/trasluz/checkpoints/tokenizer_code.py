"""Python that cuts and joins texts as a model's tokenizers do, without trasluz: for the READMEs of exported folders.

cut(text) -> pieces of the source side, as tokens or ids;   join(pieces of the target side) -> text
"""

from dataclasses import dataclass

from trasluz.checkpoints.model_folder import LoadedModel
from trasluz.text.marian_tokenizer import MarianTokenizer

_OPENING = """\
source, target = (Tokenizer.from_file(f"{{side}}tokenizer.json") for side in ("", "{target}"))
source.encode_special_tokens = True  # whatever a text says, it stays text
"""
_TOKENS = """\
def cut(text):
    return source.encode(text, add_special_tokens=False).tokens


def join(tokens):
    return target.decode([target.token_to_id(token) for token in tokens])
"""
_IDS = """\
def cut(text):
    return source.encode(text, add_special_tokens=False).ids


def join(ids):
    return target.decode(ids)
"""

_MARIAN_OPENING = """\
source, target = (SentencePieceProcessor(model_file=f"{side}.spm") for side in ("source", "target"))
"""
_MARIAN_TOKENS = """\
def cut(text):
    return source.encode(text, out_type=str)


def join(tokens):
    return target.decode_pieces(tokens).replace("\\u2581", " ").strip()
"""
_MARIAN_IDS = """\
numbers, target_numbers = (json.load(open(f"{{side}}vocab.json", encoding="utf-8")) for side in ("", "{target}"))
pieces = {{number: piece for piece, number in target_numbers.items()}}


def cut(text):
    return [numbers.get(piece, numbers["{unknown}"]) for piece in source.encode(text, out_type=str)]


def join(ids):
    return target.decode_pieces([pieces[number] for number in ids]).replace("\\u2581", " ").strip()
"""


@dataclass(frozen=True)
class TokenizerCode:
    """The package it needs, the line that imports it, and two stretches of a program."""

    package: str
    importing: str
    opening: str
    functions: str


def tokenizer_code(loaded: LoadedModel, *, ids: bool) -> TokenizerCode:
    """Return the code for a model's tokenizers; `cut` and `join` deal in ids, or else in tokens."""
    source, target = loaded.source_tokenizer, loaded.target_tokenizer
    if isinstance(source, MarianTokenizer):
        functions = _MARIAN_TOKENS
        if ids:
            prefix = "target_" if source.has_two_vocabularies else ""
            functions = _MARIAN_IDS.format(target=prefix, unknown=source.special_tokens[2])
        importing = "from sentencepiece import SentencePieceProcessor"
        return TokenizerCode("sentencepiece", importing, _MARIAN_OPENING, functions)
    opening = _OPENING.format(target="" if target is source else "target_")
    return TokenizerCode("tokenizers", "from tokenizers import Tokenizer", opening, _IDS if ids else _TOKENS)
