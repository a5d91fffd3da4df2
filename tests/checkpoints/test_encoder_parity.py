"""Encoders of odd sizes give here what they give in `transformers`, with every head, and are written as they were."""

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from tests.checkpoints.hub_encoders import CLASSES, family_of, write_encoder
from torch import Tensor
from transformers.utils import logging

from trasluz.checkpoints.model_folder import LoadedModel, load_model, save_model
from trasluz.errors import ModelError, RequestError
from trasluz.inspection.recorder import record_attention
from trasluz.layers.masks import Mask
from trasluz.text.batching import TextBatch, make_text_batch


@pytest.fixture(autouse=True, scope="module")
def quiet() -> None:
    logging.set_verbosity_error()
    logging.disable_progress_bar()


@pytest.fixture(scope="module", params=CLASSES)
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    folder = tmp_path_factory.mktemp("encoders") / request.param
    return folder, write_encoder(folder, request.param, seed=CLASSES.index(request.param))


def random_batch(loaded: LoadedModel, lengths: tuple[int, ...] = (5, 17, 38, 1)) -> TextBatch:
    config = loaded.config
    texts = [torch.randint(5, config.vocab_size, (length,)).tolist() for length in lengths]
    # The second half is another text where there are such.
    segments = [[int(2 * place >= length and config.num_segments > 1) for place in range(length)] for length in lengths]
    return make_text_batch(texts, segments, pad_id=config.pad_id)


def reference_pass(model: Any, batch: TextBatch) -> Any:
    mask = Mask(batch.lengths).dense(1, batch.ids.shape[1])[:, 0].long()
    segments = {} if family_of(type(model).__name__) == "DistilBert" else {"token_type_ids": batch.segments}
    with torch.no_grad():
        return model(
            input_ids=batch.ids, attention_mask=mask, output_attentions=True, output_hidden_states=True, **segments
        )


def their_logits(name: str, theirs: Any) -> Tensor:
    """Return what a head of ours of this name gives, out of what the library gives."""
    if name == "pool":
        return theirs.pooler_output
    if name == "answer":
        return torch.stack([theirs.start_logits, theirs.end_logits], dim=-1)
    both = {"fill-mask": "prediction_logits", "next-sentence": "seq_relationship_logits"}.get(name)
    return theirs[both] if both in theirs else theirs.logits


def test_states_attention_and_heads(case: tuple[Path, Any]) -> None:
    folder, model = case
    loaded = load_model(folder)
    batch = random_batch(loaded)
    theirs = reference_pass(model, batch)
    encoder: Any = loaded.model
    with torch.no_grad(), record_attention(encoder) as record:
        hidden = encoder(batch)
        answers = {name: head(hidden) for name, head in encoder.heads.items()}
    real = Mask(batch.lengths).dense(1, hidden.shape[1])[:, 0]
    assert float((hidden - theirs.hidden_states[-1])[real].abs().max()) < 2e-5
    assert len(record.encoder) == len(theirs.attentions)
    for layer, weights in enumerate(theirs.attentions):
        difference = (record.encoder[layer].weights - weights).transpose(1, 2)
        assert float(difference[real].abs().max()) < 2e-5
    assert answers or type(model).__name__ == "DistilBertModel"
    for name, answer in answers.items():
        difference = answer - their_logits(name, theirs)
        assert float((difference if difference.ndim == 2 else difference[real]).abs().max()) < 2e-5


def test_written_again_it_is_the_same_to_the_bit(case: tuple[Path, Any], tmp_path: Path) -> None:
    folder, model = case
    loaded = load_model(folder)
    save_model(tmp_path, loaded.model, loaded.source_tokenizer, loaded.target_tokenizer)
    before, after = load_file(folder / "model.safetensors"), load_file(tmp_path / "model.safetensors")
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    again = load_model(tmp_path)
    assert again.config == loaded.config and again.task == loaded.task
    # The library loads it without a word about its keys, and computes the same.
    theirs, report = getattr(transformers, type(model).__name__).from_pretrained(
        tmp_path, output_loading_info=True, attn_implementation="eager"
    )
    assert not report["missing_keys"] and not report["unexpected_keys"], report
    batch = random_batch(loaded)
    first, second = reference_pass(model, batch), reference_pass(theirs.eval(), batch)
    assert torch.equal(first.hidden_states[-1], second.hidden_states[-1])
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["architectures"] == [type(model).__name__]
    if "Classification" in type(model).__name__:
        assert theirs.config.num_labels == 5


def test_tokenizers_of_written_folders_load_in_the_library(case: tuple[Path, Any], tmp_path: Path) -> None:
    folder, _ = case
    loaded = load_model(folder)
    save_model(tmp_path, loaded.model, loaded.source_tokenizer, loaded.target_tokenizer)
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    for pair in (("The light comes through the paper.", None), ("¿Dónde está la luz?", "In the paper.")):
        first, second = (text if text is None else loaded.source_tokenizer.encode(text).ids for text in pair)
        ids, _ = loaded.source_tokenizer.join(first, second)
        assert ids.tolist() == theirs(*pair)["input_ids"]


def test_padding_and_neighbours_change_nothing(case: tuple[Path, Any]) -> None:
    loaded = load_model(case[0])
    batch = random_batch(loaded)
    with torch.no_grad():
        together = loaded.model(batch)
        for row, length in enumerate(batch.lengths.tolist()):
            part = slice(row, row + 1)
            alone = TextBatch(batch.ids[part, :length], batch.lengths[part], batch.segments[part, :length])
            assert torch.allclose(loaded.model(alone)[0], together[row, :length], atol=1e-5)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_encoder(tmp_path / "bert", "BertForMaskedLM")
    return tmp_path / "bert"


def change_config(folder: Path, **changes: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def change_weights(folder: Path, **names: str | None) -> None:
    """Rename tensors, old name to new; None drops one."""
    path = folder / "model.safetensors"
    tensors = load_file(path)
    path.unlink()
    save_file({names.get(key, key): value for key, value in tensors.items() if names.get(key, key)}, path)  # type: ignore[misc]


def test_old_names_of_norms_are_read_and_new_ones_written(folder: Path, tmp_path: Path) -> None:
    expected = load_file(folder / "model.safetensors")
    old = {key: key.replace("Norm.weight", "Norm.gamma").replace("Norm.bias", "Norm.beta") for key in expected}
    change_weights(folder, **old)
    loaded = load_model(folder)
    save_model(tmp_path / "new", loaded.model, loaded.source_tokenizer, loaded.target_tokenizer)
    assert load_file(tmp_path / "new" / "model.safetensors").keys() == expected.keys()


def test_keys_that_are_missing_or_too_many_are_named(folder: Path) -> None:
    name = "bert.encoder.layer.1.output.dense.bias"
    change_weights(folder, **{name: None, "cls.predictions.transform.dense.bias": "cls.other"})
    with pytest.raises(ModelError) as refused:
        load_model(folder)
    assert name in str(refused.value) and "cls.predictions.transform.dense.bias" in str(refused.value)
    assert "cls.other, unknown here" in str(refused.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"is_decoder": True}, "is_decoder is True, but only False is known"),
        ({"position_embedding_type": "relative_key"}, "position_embedding_type is 'relative_key'"),
        ({"hidden_act": "mish"}, "hidden_act is 'mish'; known are relu, gelu"),
        ({"architectures": ["BertForMultipleChoice"]}, "a BertForMultipleChoice cannot be loaded"),
        ({"num_attention_heads": 4}, r"`model_dim` \(21\) must be a multiple of `num_heads`"),
        ({"hidden_dropout_prob": "much"}, "dropout='much'"),
        ({"max_position_embeddings": 30}, r"position_embeddings.weight has shape \[40, 21\], .* asks for \[30, 21\]"),
        ({"vocab_size": 9}, "vocab|word_embeddings"),
    ],
)
def test_what_cannot_be_loaded_says_why(folder: Path, changes: dict[str, Any], message: str) -> None:
    change_config(folder, **changes)
    with pytest.raises(ModelError, match=message):
        load_model(folder)


def test_a_folder_with_a_pickle_only_says_how_to_convert_it(folder: Path) -> None:
    shutil.move(folder / "model.safetensors", folder / "pytorch_model.bin")
    with pytest.raises(ModelError, match=r"a pickle, which .* BertForMaskedLM\.from_pretrained"):
        load_model(folder)


def test_a_roberta_that_classifies_ignores_a_pooler_beside_it(tmp_path: Path) -> None:
    folder = tmp_path / "roberta"
    write_encoder(folder, "RobertaForSequenceClassification")
    plain: Any = load_model(folder).model
    path = folder / "model.safetensors"
    pooler = {"roberta.pooler.dense.weight": torch.randn(21, 21), "roberta.pooler.dense.bias": torch.randn(21)}
    tensors = load_file(path) | pooler
    path.unlink()
    save_file(tensors, path)
    loaded = load_model(folder)
    assert loaded.config.heads == ["classify"]
    assert all(torch.equal(one, plain.get_parameter(name)) for name, one in loaded.model.named_parameters())
    # One that has both, which only a folder of ours tells, keeps both.
    both = type(plain)(plain.config.model_copy(update={"heads": ["pool", "classify"]})).eval()
    save_model(tmp_path / "both", both, loaded.source_tokenizer, loaded.target_tokenizer)
    assert load_model(tmp_path / "both").config.heads == ["pool", "classify"]


@pytest.mark.parametrize(("class_name", "room"), [("BertModel", 40), ("RobertaModel", 38)])
def test_a_text_too_long_is_told_its_tokens(class_name: str, room: int, tmp_path: Path) -> None:
    write_encoder(tmp_path, class_name)
    loaded = load_model(tmp_path)
    assert loaded.config.longest_text == room
    loaded.model(random_batch(loaded, (room,)))
    with pytest.raises(RequestError, match=f"{room + 1} tokens does not fit: this model has {room} trained positions"):
        loaded.model(random_batch(loaded, (room + 1,)))


@pytest.mark.parametrize("class_name", ["BertForMaskedLM", "RobertaForMaskedLM"])
def test_which_activation_a_head_of_masked_words_has(class_name: str, tmp_path: Path) -> None:
    # RoBERTa's is GELU, whatever the config says of its layers.
    model = write_encoder(tmp_path, class_name, hidden_act="relu")
    loaded = load_model(tmp_path)
    batch = random_batch(loaded, (9, 9))
    encoder: Any = loaded.model
    with torch.no_grad():
        logits = encoder.heads["fill-mask"](encoder(batch))
    assert float((logits - reference_pass(model, batch).logits).abs().max()) < 2e-5


def test_shards_and_half_precision(folder: Path, tmp_path: Path) -> None:
    whole = transformers.BertForMaskedLM.from_pretrained(folder)
    for name, dtype in (("fp16", torch.float16), ("bf16", torch.bfloat16)):
        place = tmp_path / name
        shutil.copytree(folder, place)
        (place / "model.safetensors").unlink()
        whole.to(dtype).save_pretrained(place, max_shard_size="20KB")
        assert len(list(place.glob("model-*.safetensors"))) > 1
        read = dict(load_model(place).model.named_parameters())
        assert all(parameter.dtype == torch.float32 for parameter in read.values())
        stored = whole.get_parameter("bert.encoder.layer.0.output.dense.weight")
        assert torch.equal(read["encoder.0.feed_forward.contract.weight"], stored.float())
        whole.float()


def test_heads_can_be_exchanged(folder: Path) -> None:
    masked: Any = load_model(folder).model
    tuned = masked.with_heads(["classify"], ["no", "yes"])
    assert list(tuned.heads) == ["classify"] and tuned.config.labels == ["no", "yes"]
    for name in ("word_embedding.weight", "encoder.2.feed_forward.expand.bias"):
        assert torch.equal(tuned.get_parameter(name), masked.get_parameter(name))
        assert tuned.get_parameter(name) is not masked.get_parameter(name)
    # A head of the same labels stays as it is; one of others begins anew, but keeps the pooler.
    same = tuned.with_heads(["classify"], ["no", "yes"])
    assert torch.equal(same.heads["classify"].output.weight, tuned.heads["classify"].output.weight)
    other = tuned.with_heads(["classify"], ["a", "b"])
    assert not torch.equal(other.heads["classify"].output.weight, tuned.heads["classify"].output.weight)
    assert torch.equal(other.pooler.dense.weight, tuned.pooler.dense.weight)
    assert dataclasses.is_dataclass(LoadedModel)
