"""Python that cuts and joins texts as a model's tokenizers do, without trasluz: for the READMEs of exported folders.

cut(text) -> pieces of the source side, as tokens or ids;   join(pieces of the target side) -> text
"""

from dataclasses import dataclass

from trasluz.checkpoints.model_folder import LoadedModel
from trasluz.text.marian_tokenizer import MarianTokenizer

_OPENING = """\
source, target = (Tokenizer.from_file(f"{{side}}tokenizer.json") for side in ("", "{target}"))
source.encode_special_tokens = True  # whatever a text says, it stays text
special = {{token.content for token in target.get_added_tokens_decoder().values() if token.special}} - {{"{unknown}"}}
"""
_TOKENS = """\
def cut(text):
    return source.encode(text, add_special_tokens=False).tokens


def join(tokens):
    return target.decoder.decode([{shown} for token in tokens if token not in special])
"""
_IDS = """\
def cut(text):
    return source.encode(text, add_special_tokens=False).ids


def join(ids):
    tokens = [target.id_to_token(number) or "{unknown}" for number in ids]
    return target.decoder.decode([{shown} for token in tokens if token not in special])
"""

_MARIAN_OPENING = """\
source, target = (SentencePieceProcessor(model_file=f"{{side}}.spm") for side in ("source", "target"))


def is_special(piece):
    return piece in {special} or (piece.startswith(">>") and piece.endswith("<<"))


"""
_MARIAN_TOKENS = """\
def cut(text):
    return source.encode(text, out_type=str)


def join(tokens):
    pieces = [token for token in tokens if not is_special(token)]
    return target.decode_pieces(pieces).replace("\\u2581", " ").strip()
"""
_MARIAN_IDS = """\
numbers, target_numbers = (json.load(open(f"{{side}}vocab.json", encoding="utf-8")) for side in ("", "{target}"))
pieces = {{number: piece for piece, number in target_numbers.items() if not is_special(piece)}}


def cut(text):
    return [numbers.get(piece, numbers["{unknown}"]) for piece in source.encode(text, out_type=str)]


def join(ids):
    known = [pieces[number] for number in ids if number in pieces]
    return target.decode_pieces(known).replace("\\u2581", " ").strip()
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
        names = source.special_tokens[:3]
        functions = _MARIAN_TOKENS
        if ids:
            functions = _MARIAN_IDS.format(target="target_" if source.has_two_vocabularies else "", unknown=names[2])
        importing = "from sentencepiece import SentencePieceProcessor"
        return TokenizerCode("sentencepiece", importing, _MARIAN_OPENING.format(special=names), functions)
    unknown = target.special_names[3]
    # Among whole words an unknown one has a blank before it; other kinds know nothing of words.
    shown = f'token.replace("{unknown}", "\u2581{unknown}")' if target.kind == "word" else "token"
    opening = _OPENING.format(target="" if target is source else "target_", unknown=unknown)
    functions = (_IDS if ids else _TOKENS).format(shown=shown, unknown=unknown)
    return TokenizerCode("tokenizers", "from tokenizers import Tokenizer", opening, functions)
