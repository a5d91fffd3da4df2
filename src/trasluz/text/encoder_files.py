"""Reading an encoder's tokenizer from its folder, in each form in which such folders come.

    tokenizer.json                    the whole tokenizer in the format of `tokenizers`
    vocab.txt                         the pieces of a WordPiece vocabulary (BERT), one a line
    vocab.json, merges.txt            byte-level byte-pair encoding (RoBERTa)
    tokenizer_config.json             settings and the names of the special tokens; may be missing
    special_tokens_map.json           the names again, in older folders; may be missing
    added_tokens.json                 tokens that were added to the vocabulary, in older folders; may be missing

Some classes of `transformers` build the steps before and after the vocabulary from the settings, even where
tokenizer.json holds such steps. The same is done here, since models are used with what `transformers` does.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tokenizers
from tokenizers import AddedToken, decoders, models, normalizers, pre_tokenizers, processors

from trasluz.errors import ModelError
from trasluz.text.tokenizer_settings import parse_object, token_name

TOKENIZER, CONFIG, SPECIALS = "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"
_EXPECTED = "; a tokenizer's settings were expected"
_ADDED, _PIECES, _VOCABULARY, _MERGES = "added_tokens.json", "vocab.txt", "vocab.json", "merges.txt"
_FILES = (TOKENIZER, CONFIG, SPECIALS, _ADDED, _PIECES, _VOCABULARY, _MERGES)

ROLES = ("pad", "cls", "sep", "unk", "mask")
_USUAL_NAMES = {
    "pad": ("[PAD]", "<pad>"),
    "cls": ("[CLS]", "<s>"),
    "sep": ("[SEP]", "</s>"),
    "unk": ("[UNK]", "<unk>"),
    "mask": ("[MASK]", "<mask>"),
}

WHOLE_CLASS = "PreTrainedTokenizerFast"
_BERT, _ROBERTA = "BertTokenizer", "RobertaTokenizer"
_LIKE_BERT = ("Bert", "DistilBert", "Electra", "MobileBert", "SqueezeBert", "ConvBert", "LayoutLM", "Lxmert")
_FAMILIES = {f"{name}Tokenizer": _BERT for name in _LIKE_BERT} | {
    f"{name}Tokenizer": _ROBERTA for name in ("Roberta", "Longformer")
}
"""The classes of `transformers` that build their steps from the settings, each with what it is a form of."""


@dataclass(frozen=True)
class EncoderFiles:
    """What a folder says about its tokenizer; `names` are those of the roles, `files` the files as they were read."""

    backend: tokenizers.Tokenizer
    names: dict[str, str | None]
    settings: dict[str, Any]
    files: dict[str, bytes]


def read_encoder_files(folder: str | Path, prefix: str = "") -> EncoderFiles:
    """Read the tokenizer of a folder, in whichever form it is there.

    Raises ModelError, naming the file, where one is missing or broken.
    """
    folder = Path(folder)
    paths = {name: folder / f"{prefix}{name}" for name in _FILES}
    files = {name: _read(path) for name, path in paths.items() if path.exists()}
    settings, special_names, added = (
        parse_object(paths[name], files[name], _EXPECTED) if name in files else {}
        for name in (CONFIG, SPECIALS, _ADDED)
    )
    # A folder of `transformers` 5 says everything in one file; in older ones the second file has the last word.
    stated = settings if "added_tokens_decoder" in settings else settings | special_names
    family = _family(settings, folder / "config.json")
    backend, form = _vocabulary(paths, files, family)
    if form != TOKENIZER:
        family = _BERT if form == _PIECES else _ROBERTA
    elif (family, type(backend.model)) not in ((_BERT, models.WordPiece), (_ROBERTA, models.BPE)):
        family = None
    try:
        if family == _BERT:
            _build_bert_steps(backend, settings)
        elif family == _ROBERTA:
            _build_roberta_steps(backend, settings)
        _add_tokens(backend, stated, added)
        names = {role: _name_of_role(role, stated, backend, paths[form], paths[CONFIG]) for role in ROLES}
        _add_roles(backend, names, stated, mask_takes_blank=family == _ROBERTA)
        if family is not None:
            _build_template(backend, family, names, settings)
    except (TypeError, ValueError, AttributeError) as error:
        raise ModelError(f"{paths[CONFIG]} has a setting that cannot be used: {error}.") from None
    return EncoderFiles(backend, names, settings | _what_followed(settings, stated, family, names), files)


def _what_followed(
    settings: dict[str, Any], stated: dict[str, Any], family: str | None, names: dict[str, str | None]
) -> dict[str, Any]:
    """Return the settings that were not written down, so that a copy of the folder needs no other file to say them."""
    # What the class itself takes for granted need not be written.
    defaults = {role: usual[family == _ROBERTA] for role, usual in _USUAL_NAMES.items()} if family is not None else {}
    followed: dict[str, Any] = {
        f"{role}_token": name
        for role, name in names.items()
        if name is not None and token_name(stated.get(f"{role}_token")) is None and name != defaults.get(role)
    }
    stated_class = str(settings.get("tokenizer_class") or "").removesuffix("Fast")
    if family is not None and _FAMILIES.get(stated_class) != family:
        followed["tokenizer_class"] = family
    if family is None and stated_class not in ("PreTrainedTokenizer", "TokenizersBackend"):
        # The class that takes tokenizer.json as it is, which is what was done here.
        followed["tokenizer_class"] = WHOLE_CLASS
    return followed


def _family(settings: dict[str, Any], model_config: Path) -> str | None:
    """Return the class that builds this tokenizer's steps: the one that is named, or the usual one of the model."""
    model = parse_object(model_config, _read(model_config), _EXPECTED) if model_config.exists() else {}
    name = settings.get("tokenizer_class") or model.get("tokenizer_class")
    if isinstance(name, str):
        return _FAMILIES.get(name.removesuffix("Fast"))
    kind = f"{model.get('model_type')}tokenizer"
    return next((family for name, family in _FAMILIES.items() if name.lower() == kind), None)


def _vocabulary(
    paths: dict[str, Path], files: dict[str, bytes], family: str | None
) -> tuple[tokenizers.Tokenizer, str]:
    """Return the vocabulary as a tokenizer without steps, or the whole tokenizer, and the file that it stands in."""
    if TOKENIZER in files:
        form = TOKENIZER
    elif _PIECES in files and not (family == _ROBERTA and _VOCABULARY in files):
        form = _PIECES
    elif _VOCABULARY in files and _MERGES in files:
        form = _VOCABULARY
    elif _VOCABULARY in files:
        raise ModelError(f"{paths[_MERGES]} is missing: {_VOCABULARY} needs its merges beside it.")
    else:
        raise ModelError(
            f"{paths[TOKENIZER]} is missing: an encoder's tokenizer is {TOKENIZER}, or {_PIECES}, "
            f"or {_VOCABULARY} with {_MERGES}."
        )
    try:
        if form == TOKENIZER:
            backend = tokenizers.Tokenizer.from_str(files[TOKENIZER].decode())
            backend.no_padding()
            backend.no_truncation()
        elif form == _PIECES:
            backend = tokenizers.Tokenizer(models.WordPiece(models.WordPiece.read_file(str(paths[_PIECES]))))
        else:
            vocabulary, merges = models.BPE.read_file(str(paths[_VOCABULARY]), str(paths[_MERGES]))
            backend = tokenizers.Tokenizer(
                models.BPE(vocabulary, merges, continuing_subword_prefix="", end_of_word_suffix="", fuse_unk=False)
            )
    except Exception as error:  # The library raises bare Exception for whatever is wrong inside a file.
        beside = f" with {_MERGES}" if form == _VOCABULARY else ""
        raise ModelError(f"{paths[form]}{beside} is not a tokenizer file that can be read: {error}") from None
    return backend, form


def _build_bert_steps(backend: tokenizers.Tokenizer, settings: dict[str, Any]) -> None:
    backend.normalizer = normalizers.BertNormalizer(
        clean_text=True,
        handle_chinese_chars=settings.get("tokenize_chinese_chars", True),
        strip_accents=settings.get("strip_accents"),
        lowercase=settings.get("do_lower_case", True),
    )
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.decoder = decoders.WordPiece(prefix="##")
    backend.model.max_input_chars_per_word = 100


def _build_roberta_steps(backend: tokenizers.Tokenizer, settings: dict[str, Any]) -> None:
    backend.normalizer = None
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=settings.get("add_prefix_space", False))
    backend.decoder = decoders.ByteLevel()
    backend.model.unk_token = None


def _build_template(
    backend: tokenizers.Tokenizer, family: str, names: dict[str, str | None], settings: dict[str, Any]
) -> None:
    cls, sep = (_with_id(backend, str(names[role])) for role in ("cls", "sep"))
    if family == _BERT:
        backend.model.unk_token = names["unk"]
        backend.post_processor = bert_template(cls, sep)
    else:
        backend.post_processor = processors.RobertaProcessing(
            sep, cls, settings.get("trim_offsets", True), settings.get("add_prefix_space", False)
        )


def _with_id(backend: tokenizers.Tokenizer, name: str) -> tuple[str, int]:
    index = backend.token_to_id(name)
    assert index is not None, f"a vocabulary without {name}"
    return name, index


def bert_template(cls: tuple[str, int], sep: tuple[str, int]) -> processors.PostProcessor:
    """Return BERT's template of the two special tokens, each with its id."""
    return processors.TemplateProcessing(
        single=f"{cls[0]}:0 $A:0 {sep[0]}:0",
        pair=f"{cls[0]}:0 $A:0 {sep[0]}:0 $B:1 {sep[0]}:1",
        special_tokens=[cls, sep],
    )


def _add_tokens(backend: tokenizers.Tokenizer, stated: dict[str, Any], added: dict[str, Any]) -> None:
    """Add the tokens that the settings name beside the vocabulary, in the order of their ids."""
    known = {token.content for token in backend.get_added_tokens_decoder().values()}
    names = {token_name(stated.get(f"{role}_token")) for role in ROLES}
    tokens: dict[int, AddedToken] = {}
    for name, index in added.items():
        tokens[int(index)] = AddedToken(name, normalized=name not in names, special=name in names)
    for text, entry in (stated.get("added_tokens_decoder") or {}).items():
        tokens[int(text)] = AddedToken(**entry)
    backend.add_tokens([tokens[index] for index in sorted(tokens) if tokens[index].content not in known])
    more = stated.get("extra_special_tokens") or stated.get("additional_special_tokens") or []
    extra = [token_name(entry) for entry in (more.values() if isinstance(more, dict) else more)]
    known |= {tokens[index].content for index in tokens}
    backend.add_special_tokens(
        [AddedToken(name, special=True, normalized=False) for name in extra if name is not None and name not in known]
    )


def _add_roles(
    backend: tokenizers.Tokenizer, names: dict[str, str | None], stated: dict[str, Any], mask_takes_blank: bool
) -> None:
    """Make each token with a role a special one; RoBERTa's mask takes the blank before it unless told otherwise."""
    special = {token.content for token in backend.get_added_tokens_decoder().values() if token.special}
    for role, name in names.items():
        if name is None or name in special:
            continue
        entry = stated.get(f"{role}_token")
        flags = {"lstrip": mask_takes_blank and role == "mask"}
        if isinstance(entry, dict):
            flags = {flag: bool(entry.get(flag)) for flag in ("lstrip", "rstrip", "single_word")}
        backend.add_special_tokens([AddedToken(name, special=True, normalized=False, **flags)])


def _name_of_role(
    role: str, stated: dict[str, Any], backend: tokenizers.Tokenizer, vocabulary: Path, config: Path
) -> str | None:
    """Return the name of the token with a role: the stated one, or the usual one that the vocabulary has."""
    name = token_name(stated.get(f"{role}_token"))
    if name is not None and backend.token_to_id(name) is not None:
        return name
    if name is None:
        for usual in _USUAL_NAMES[role]:
            if backend.token_to_id(usual) is not None:
                return usual
    if role == "mask":
        return None
    if name is not None:
        raise ModelError(
            f"{config}: {role}_token is {name!r}, which is no entry of the vocabulary in {vocabulary.name}."
        )
    first, second = _USUAL_NAMES[role]
    raise ModelError(
        f"{vocabulary} has neither {first!r} nor {second!r}, and no other {role}_token is named in {config.name}."
    )


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error.strerror}.") from None
