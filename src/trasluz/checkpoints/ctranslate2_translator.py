"""Our Transformers that translate in CTranslate2, for `ctranslate2.Translator`.

    shared_vocabulary.json     the token of every id (or source_vocabulary.json and target_vocabulary.json)

A source's end is added by the engine. Asked for attention, the engine shows the first heads of one layer: the head that
a model names for its alignment is therefore put first.
"""

import json
import math
from typing import Any

import torch
from torch import Tensor

from trasluz.checkpoints.ctranslate2_layers import (
    DECODER_LAYER,
    SELF_ATTENTION_LAYER,
    activation_of,
    layer_rows,
    put_weights,
    vocabulary,
)
from trasluz.checkpoints.export_folder import (
    LEAST_POSITIONS,
    most_target_tokens,
    no_repeat_ngram,
    paragraphs,
    tag_notes,
)
from trasluz.checkpoints.generation_settings import forbidden_ids
from trasluz.checkpoints.model_folder import LoadedModel, language_tags
from trasluz.checkpoints.tokenizer_code import tokenizer_code
from trasluz.checkpoints.weights import model_tensors
from trasluz.errors import ModelError
from trasluz.layers.positional_encoding import sinusoids
from trasluz.models.key_map import KeyMap, Row
from trasluz.models.transformer import TransformerConfig


def key_map() -> KeyMap:
    """Return the table of names, theirs and ours; tied matrices are copies that `_tensors` adds."""
    rows = [
        Row("encoder/embeddings_0/weight", "source_embedding.weight"),
        Row("decoder/embeddings/weight", "target_embedding.weight"),
        Row("decoder/projection/weight", "output_head.weight"),
        Row("decoder/projection/bias", "output_head.bias"),
        Row("encoder/position_encodings/encodings", "source_positions.weight"),
        Row("decoder/position_encodings/encodings", "target_positions.weight"),
    ]
    for stack, layer in (("encoder", SELF_ATTENTION_LAYER), ("decoder", DECODER_LAYER)):
        rows += layer_rows(stack, layer, stack)
    return KeyMap(rows)


def check_translator(loaded: LoadedModel) -> None:
    """Raise ModelError for a model that CTranslate2 has no place for."""
    config = loaded.config
    if not isinstance(config, TransformerConfig):
        raise ModelError(
            f"{loaded.name} is no Transformer but of the class {type(loaded.model).__name__}, and CTranslate2 has only "
            "Transformers; onnx takes recurrent models, too."
        )
    if not config.num_encoder_layers:
        raise ModelError(f"{loaded.name} has no layer in its encoder, but CTranslate2 asks for one; use onnx.")
    ends = [tokenizer.tokens([config.eos_id])[0] for tokenizer in (loaded.source_tokenizer, loaded.target_tokenizer)]
    if ends[0] != ends[1]:
        raise ModelError(
            f"a source of {loaded.name} ends with {ends[0]!r} and a target with {ends[1]!r}, but CTranslate2 knows one "
            "end for both; use onnx."
        )
    _alignment(loaded)


def translator_specification(loaded: LoadedModel) -> Any:
    """Return the engine's description of a Transformer, with all its weights."""
    from ctranslate2.specs.transformer_spec import TransformerSpec

    config = loaded.config
    layer, head = _alignment(loaded)
    specification = TransformerSpec.from_config(
        (config.num_encoder_layers, config.num_decoder_layers),
        config.num_heads,
        pre_norm=config.norm == "pre",
        activation=activation_of(config.activation),
        alignment_layer=layer,
        alignment_heads=config.num_heads if head == "mean" else 1,
    )
    for stack in (specification.encoder, specification.decoder):
        stack.scale_embeddings = math.sqrt(config.model_dim) if config.scale_embeddings else 1.0
    put_weights(specification, _tensors(loaded, layer, head))
    source, target = (
        vocabulary(tokenizer.tokens(range(size)), tokenizer.id_of)
        for tokenizer, size in (
            (loaded.source_tokenizer, config.source_vocab_size),
            (loaded.target_tokenizer, config.target_vocab_size),
        )
    )
    specification.register_source_vocabulary(source)
    specification.register_target_vocabulary(target)
    tokens = specification.config
    tokens.bos_token = tokens.decoder_start_token = target[config.start_id]
    tokens.eos_token = target[config.eos_id]
    tokens.unk_token = target[loaded.target_tokenizer.unk_id]
    tokens.add_source_eos = True
    return specification


def _tensors(loaded: LoadedModel, layer: int, head: int | str) -> dict[str, Tensor]:
    """Return the weights under their names, each in every place where it is used."""
    config: TransformerConfig = loaded.config
    ours = model_tensors(loaded.model)
    if head != "mean":
        _put_head_first(ours, f"decoder.{layer}.cross_attention", int(head), config.num_heads)
    theirs = key_map().write(ours)
    if config.tied_embeddings == "all":
        theirs["decoder/embeddings/weight"] = theirs["encoder/embeddings_0/weight"]
    if config.tied_embeddings != "none":
        theirs["decoder/projection/weight"] = theirs["decoder/embeddings/weight"]
    if config.positions == "sinusoidal":
        table = sinusoids(0, _num_positions(loaded), config.model_dim)
        theirs |= {f"{stack}/position_encodings/encodings": table for stack in ("encoder", "decoder")}
    return theirs


def _num_positions(loaded: LoadedModel) -> int:
    """Return how many positions the engine's table has; sinusoids have no end, but a table has."""
    config: TransformerConfig = loaded.config
    if config.positions == "trainable":
        return config.max_positions
    return max(LEAST_POSITIONS, config.max_positions, most_target_tokens(loaded))


def _alignment(loaded: LoadedModel) -> tuple[int, int | str]:
    """Return layer and head whose attention is shown."""
    place = loaded.attention_place
    assert place is not None, "a Transformer looks at its source"
    return place


def _put_head_first(tensors: dict[str, Tensor], attention: str, head: int, num_heads: int) -> None:
    """Give the heads of an attention another order, which changes nothing of what it computes."""
    order = torch.tensor([head, *(other for other in range(num_heads) if other != head)])
    for name in ("query.weight", "query.bias", "key.weight", "key.bias", "value.weight", "value.bias"):
        rows = tensors[f"{attention}.{name}"].unflatten(0, (num_heads, -1))
        tensors[f"{attention}.{name}"] = rows[order].flatten(0, 1)
    columns = tensors[f"{attention}.output.weight"].unflatten(1, (num_heads, -1))
    tensors[f"{attention}.output.weight"] = columns[:, order].flatten(1, 2)


def about_translator(loaded: LoadedModel) -> str:
    """Return what the README says: a program, and what goes in and comes out."""
    code = tokenizer_code(loaded, ids=False)
    generation, config = loaded.generation, loaded.config
    tokens = loaded.target_tokenizer.tokens(forbidden_ids(generation))
    never = json.dumps([[token] for token in tokens], ensure_ascii=False)
    beam, penalty = generation.get("num_beams", 1), float(generation.get("length_penalty", 1.0))
    size = no_repeat_ngram(loaded)
    repeats = f"        no_repeat_ngram_size={size},\n" if size else ""
    tags = list(language_tags(loaded).values())
    parameter, source = (f', tag="{tags[0]}"', "[tag, *cut(text)]") if tags else ("", "cut(text)")
    program = f"""\
import ctranslate2
{code.importing}

{code.opening}translator = ctranslate2.Translator(".")


{code.functions}

def translate(texts{parameter}):
    results = translator.translate_batch(
        [{source} for text in texts],
        beam_size={beam},
        length_penalty={penalty},
        max_input_length=0,  # a text too long is an error; otherwise it would be cut
        min_decoding_length=0,
        max_decoding_length={most_target_tokens(loaded) - 1},
{repeats}        suppress_sequences={never},
    )
    return [join(result.hypotheses[0]) for result in results]
"""
    lengths = ""
    # Models of another house have no such limit in trasluz, either.
    if generation.get("normalization") != "power":
        lengths = (
            " But trasluz stops, unless told otherwise, at 3 times the tokens of the source and 10 more, a limit that "
            "CTranslate2 has not: what does not end by itself becomes longer here."
        )
    layer, head = _alignment(loaded)
    heads = "the mean over its heads" if head == "mean" else f"its head {head}"
    return paragraphs(
        f"To run it, `pip install ctranslate2 {code.package}` and, in this folder:",
        f"```python\n{program}```",
        f"{tag_notes(loaded)} The end of a text, `{loaded.source_tokenizer.tokens([config.eos_id])[0]}`, is added by "
        f"CTranslate2. Neither a text nor its translation may have more than {_num_positions(loaded):,} tokens.",
        "CTranslate2 ranks a translation Y by log P(Y) / |Y|^length_penalty. A beam may therefore choose otherwise "
        f"than in trasluz, where a model can have another formula; with `beam_size=1` both write the same.{lengths}",
        f"With `return_attention=True`, `result.attention[0]` is what each word written looked at: layer {layer}, "
        f"{heads}, as trasluz shows it.",
        "`compute_type` of `ctranslate2.Translator` chooses the type it computes in, whatever the type stored.",
    )
