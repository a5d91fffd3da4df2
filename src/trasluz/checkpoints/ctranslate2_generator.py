"""Our GPTs in CTranslate2, for `ctranslate2.Generator`.

vocabulary.json     the token of every id

The engine begins nothing by itself: a prompt is what it was given, and an empty one the token that ends a text.
"""

from typing import Any

from torch import Tensor

from trasluz.checkpoints.ctranslate2_layers import (
    SELF_ATTENTION_LAYER,
    activation_of,
    layer_rows,
    put_weights,
    vocabulary,
)
from trasluz.checkpoints.export_folder import paragraphs
from trasluz.checkpoints.model_folder import LoadedModel
from trasluz.checkpoints.weights import model_tensors
from trasluz.errors import ModelError
from trasluz.models.gpt import GptConfig
from trasluz.models.key_map import KeyMap, Row


def key_map() -> KeyMap:
    """Return the table of names, theirs and ours; the output matrix is a copy that `_tensors` adds."""
    return KeyMap(
        [
            Row("decoder/embeddings/weight", "word_embedding.weight"),
            Row("decoder/position_encodings/encodings", "positions.weight"),
            *layer_rows("decoder", SELF_ATTENTION_LAYER, "decoder"),
        ]
    )


def check_generator(loaded: LoadedModel) -> None:
    """Raise ModelError for a model that CTranslate2 has no place for."""
    if type(loaded.config) is not GptConfig or loaded.config.band is not None:
        raise ModelError(
            f"{loaded.name} has parts that GPT-2 has not (a band, rotary positions and the like); use onnx."
        )
    if loaded.config.eos_id is None:
        raise ModelError(f"{loaded.name} has no token that ends a text, but CTranslate2 asks for one; use onnx.")


def generator_specification(loaded: LoadedModel) -> Any:
    """Return the engine's description of a GPT, with all its weights."""
    from ctranslate2.specs.transformer_spec import TransformerDecoderModelSpec

    config, tokenizer = loaded.config, loaded.source_tokenizer
    specification = TransformerDecoderModelSpec.from_config(
        config.num_layers, config.num_heads, pre_norm=True, activation=activation_of(config.activation)
    )
    specification.decoder.scale_embeddings = False
    put_weights(specification, _tensors(loaded))
    names = [tokenizer.backend.id_to_token(index) or "" for index in range(config.vocab_size)]
    tokens = vocabulary(names, tokenizer.id_of)
    specification.register_vocabulary(tokens)
    told = specification.config
    told.layer_norm_epsilon = config.norm_epsilon
    told.bos_token = told.eos_token = told.unk_token = tokens[config.eos_id]
    return specification


def _tensors(loaded: LoadedModel) -> dict[str, Tensor]:
    """Return the weights under their names, each in every place where it is used."""
    theirs = key_map().write(model_tensors(loaded.model))
    return theirs | {"decoder/projection/weight": theirs["decoder/embeddings/weight"]}


def about_generator(loaded: LoadedModel) -> str:
    """Return what the README says: a program, and what goes in and comes out."""
    end = loaded.source_tokenizer.backend.id_to_token(loaded.config.eos_id)
    program = f"""\
import ctranslate2
from tokenizers import Tokenizer

tokenizer = Tokenizer.from_file("tokenizer.json")
tokenizer.encode_special_tokens = True  # whatever a text says, it stays text
generator = ctranslate2.Generator(".")


def generate(text, max_tokens=40):
    prompt = tokenizer.encode(text, add_special_tokens=False).tokens or ["{end}"]
    room = {loaded.config.longest_text} + 1 - len(prompt)
    if room < 1:
        raise ValueError(f"the text has {{len(prompt)}} tokens, more than the model reads")
    (result,) = generator.generate_batch(
        [prompt], max_length=min(max_tokens, room), sampling_topk=1, include_prompt_in_result=False
    )
    return tokenizer.decode(result.sequences_ids[0])
"""
    return paragraphs(
        "To run it, `pip install ctranslate2 tokenizers` and, in this folder (one text, greedily):",
        f"```python\n{program}```",
        f"A prompt and what follows it have at most {loaded.config.longest_text:,} tokens. A text ends with `{end}`. "
        "Prompts of one batch should be equally long: what is left of a longer one counts as written. "
        "With `sampling_topk=0`, `sampling_temperature` and `sampling_topp` tokens are drawn; `beam_size` searches.",
        "`compute_type` of `ctranslate2.Generator` chooses the type it computes in, whatever the type stored.",
    )
