"""BigBirds give here what they give in `transformers` when it does not train, at any length, and are written so."""

import json
import re
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from tests.checkpoints.hub_encoders import write_tokenizer
from transformers.utils import logging

from trasluz.checkpoints.model_folder import load_model, save_model
from trasluz.errors import ModelError, TrasluzWarning
from trasluz.inspection.recorder import record_attention
from trasluz.models.bigbird import BigBird
from trasluz.text.batching import TextBatch, make_text_batch

HEADS = ("Model", "ForMaskedLM", "ForPreTraining", "ForSequenceClassification", "ForTokenClassification")
SIZES = {
    "hidden_size": 20,
    "num_attention_heads": 2,
    "intermediate_size": 17,
    "num_hidden_layers": 2,
    "max_position_embeddings": 4096,
}


@pytest.fixture(autouse=True, scope="module")
def quiet() -> None:
    logging.set_verbosity_error()
    logging.disable_progress_bar()


def write_bigbird(folder: Path, head: str, *, seed: int = 0, **changes: Any) -> Any:
    """Write a random BigBird with a tokenizer, and return it."""
    folder.mkdir(parents=True, exist_ok=True)
    vocab_size = write_tokenizer(folder, "Bert")
    config = transformers.BigBirdConfig(vocab_size=vocab_size, num_labels=3, **SIZES | changes)
    torch.manual_seed(seed)
    model = getattr(transformers, f"BigBird{head}")(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.3)
    model.eval().save_pretrained(folder)
    return model


def batch_of(length: int, vocab_size: int) -> TextBatch:
    """Return one random text, half of it another segment."""
    ids = torch.randint(5, vocab_size, (length,)).tolist()
    return make_text_batch([ids], [[int(2 * place >= length) for place in range(length)]], pad_id=0)


def states_of(model: Any, batch: TextBatch) -> torch.Tensor:
    """Return the library's last states of a batch without padding."""
    with torch.no_grad():
        found = model(input_ids=batch.ids, token_type_ids=batch.segments, output_hidden_states=True)
    states: torch.Tensor = found.hidden_states[-1][:, : batch.ids.shape[1]]
    return states


# Beside the lengths for which the library has plans of their own: one block more or less, and no whole blocks at all.
@pytest.mark.parametrize("length", [1024, 3072, 4096, 705, 768, 1000, 3971, 704, 64, 7])
@pytest.mark.parametrize("kind", ["block_sparse", "original_full"])
def test_states(tmp_path: Path, kind: str, length: int) -> None:
    # Full attention over 4,096 tokens is written out there: one layer is enough.
    model = write_bigbird(tmp_path, "Model", attention_type=kind, num_hidden_layers=1 if length > 3000 else 2)
    loaded = load_model(tmp_path)
    assert isinstance(loaded.model, BigBird)
    batch = batch_of(length, loaded.config.vocab_size)
    with torch.no_grad():
        states = loaded.model(batch)
    assert float((states - states_of(model, batch)).abs().max()) < 2e-5


@pytest.mark.parametrize("head", HEADS)
def test_heads_and_attention(tmp_path: Path, head: str) -> None:
    model = write_bigbird(tmp_path, head, block_size=4, num_random_blocks=1, max_position_embeddings=64)
    loaded = load_model(tmp_path)
    encoder: Any = loaded.model
    batch = batch_of(49, loaded.config.vocab_size)
    with torch.no_grad(), record_attention(encoder) as record:
        hidden = encoder(batch)
        answers = {name: part(hidden) for name, part in encoder.heads.items()}
        theirs = model(input_ids=batch.ids, token_type_ids=batch.segments, output_attentions=True)
    for layer, weights in record.encoder.items():
        assert torch.allclose(weights.weights.sum(-1), torch.ones(1, 2, 49), atol=1e-5)
        # Of a block that is seen twice the library shows the later weights alone; what is seen once is as here.
        shown = theirs.attentions[layer][:, :, :49, :49]
        assert float((weights.weights - shown)[..., 4:].abs().max()) < 2e-5
    names = {
        "pool": "pooler_output",
        "next-sentence": "seq_relationship_logits",
        "fill-mask": "prediction_logits" if head == "ForPreTraining" else "logits",
    }
    for name, answer in answers.items():
        expected = getattr(theirs, names.get(name, "logits"), None)
        if expected is not None and not (name == "pool" and head != "Model"):
            assert float((answer - expected[:, :49] if answer.ndim == 3 else answer - expected).abs().max()) < 2e-5


@pytest.mark.parametrize("head", HEADS)
def test_written_again_it_is_the_same(tmp_path: Path, head: str) -> None:
    model = write_bigbird(tmp_path / "theirs", head, block_size=4, num_random_blocks=1, max_position_embeddings=64)
    loaded = load_model(tmp_path / "theirs")
    save_model(tmp_path / "ours", loaded.model, loaded.source_tokenizer, loaded.source_tokenizer)
    again = load_model(tmp_path / "ours")
    assert again.config == loaded.config
    theirs, report = type(model).from_pretrained(tmp_path / "ours", output_loading_info=True)
    assert not report["missing_keys"] and not report["unexpected_keys"], report
    batch = batch_of(50, loaded.config.vocab_size)
    assert torch.equal(states_of(theirs.eval(), batch), states_of(model, batch))


@pytest.mark.parametrize("tuned", [False, True])
def test_a_classifier_of_ours_is_one_there(tmp_path: Path, tuned: bool) -> None:
    write_bigbird(tmp_path / "theirs", "ForMaskedLM", attention_type="original_full", max_position_embeddings=64)
    loaded = load_model(tmp_path / "theirs")
    encoder: Any = loaded.model
    ours = encoder.with_heads(["classify"], ["for", "against"])
    if not tuned:
        ours = BigBird(ours.config.model_copy(update={"class_activation": None}))
    save_model(tmp_path / "ours", ours.eval(), loaded.source_tokenizer, loaded.source_tokenizer)
    theirs = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path / "ours").eval()
    batch = batch_of(40, loaded.config.vocab_size)
    with torch.no_grad():
        expected = theirs(input_ids=batch.ids, token_type_ids=batch.segments).logits
        assert float((ours.heads["classify"](ours(batch)) - expected).abs().max()) < 2e-5


@pytest.mark.parametrize(("plan", "is_same"), [("huggingface-eval", True), ("paper", False)])
def test_a_bigbird_of_ours_is_one_there_if_it_has_the_librarys_plan(tmp_path: Path, plan: str, is_same: bool) -> None:
    write_bigbird(tmp_path / "theirs", "Model", block_size=4, num_random_blocks=1, max_position_embeddings=64, seed=1)
    loaded = load_model(tmp_path / "theirs")
    ours = BigBird(loaded.config.model_copy(update={"random_plan": plan})).eval()
    with torch.no_grad():
        for parameter in ours.parameters():
            parameter.normal_(std=0.3)
    save_model(tmp_path / "ours", ours, loaded.source_tokenizer, loaded.source_tokenizer)
    theirs = transformers.AutoModel.from_pretrained(tmp_path / "ours").eval()
    # The longer one first: after a short text the library's model looks over all texts whole.
    for length, alike in ((49, is_same), (20, True)):
        batch = batch_of(length, loaded.config.vocab_size)
        with torch.no_grad():
            error = float((ours(batch) - states_of(theirs, batch)).abs().max())
        assert (error < 2e-5) == alike


def test_an_activation_of_its_own_comes_back(tmp_path: Path) -> None:
    write_bigbird(tmp_path / "theirs", "ForMaskedLM")
    loaded = load_model(tmp_path / "theirs")
    other = BigBird(loaded.config.model_copy(update={"class_activation": "relu"}))
    save_model(tmp_path / "ours", other, loaded.source_tokenizer, loaded.source_tokenizer)
    assert load_model(tmp_path / "ours").config.class_activation == "relu"


def test_what_the_library_does_with_short_texts_is_said(tmp_path: Path) -> None:
    write_bigbird(tmp_path / "theirs", "Model")
    with pytest.warns(TrasluzWarning, match="texts of up to 704 tokens with full attention"):
        loaded = load_model(tmp_path / "theirs")
    save_model(tmp_path / "ours", loaded.model, loaded.source_tokenizer, loaded.source_tokenizer)
    with warnings.catch_warnings():
        warnings.simplefilter("error", TrasluzWarning)
        load_model(tmp_path / "ours")


def test_what_a_folder_says_itself_is_not_said_again(tmp_path: Path) -> None:
    write_bigbird(tmp_path, "Model")
    path = tmp_path / "config.json"
    written = json.loads(path.read_text())
    for further, said in (
        ({"trasluz_random_seed": 1}, "with full attention, and longer ones without random blocks (docs"),
        ({"trasluz_random_plan": "paper"}, "texts of up to 704 tokens with full attention (docs"),
    ):
        path.write_text(json.dumps(written | further))
        with pytest.warns(TrasluzWarning, match=re.escape(said)):
            load_model(tmp_path)


def test_the_plan_can_be_switched_and_is_kept(tmp_path: Path) -> None:
    write_bigbird(tmp_path / "theirs", "Model", block_size=4, num_random_blocks=1)
    loaded = load_model(tmp_path / "theirs")
    assert loaded.config.random_plan == "huggingface-eval" and loaded.config.full_up_to == 28
    other = BigBird(loaded.config.model_copy(update={"random_plan": "paper", "full_up_to": 0, "random_seed": 3}))
    other.load_state_dict(loaded.model.state_dict())
    save_model(tmp_path / "ours", other, loaded.source_tokenizer, loaded.source_tokenizer)
    again = load_model(tmp_path / "ours")
    assert again.config == other.config
    batch = batch_of(49, other.config.vocab_size)
    with torch.no_grad():
        assert torch.equal(other.eval()(batch), again.model.eval()(batch))
        assert not torch.allclose(other(batch), loaded.model.eval()(batch))


@pytest.mark.parametrize("global_tokens", [0, 8])
def test_layers_that_were_kept_keep_their_blocks_in_a_folder(tmp_path: Path, global_tokens: int) -> None:
    write_bigbird(tmp_path / "theirs", "Model", block_size=4)
    loaded = load_model(tmp_path / "theirs")
    # With global tokens, a folder is in our words.
    thinner = BigBird(loaded.config.model_copy(update={"global_tokens": global_tokens})).with_layers([1])
    save_model(tmp_path / "ours", thinner, loaded.source_tokenizer, loaded.source_tokenizer)
    assert load_model(tmp_path / "ours").config.layer_seeds == [1]


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"attention_type": "sparse"}, "attention_type is 'sparse'; known are block_sparse, original_full."),
        ({"use_bias": False}, "use_bias is False, but only True is known of this kind of model."),
    ],
)
def test_what_is_not_known_is_refused(tmp_path: Path, changes: dict[str, Any], sentence: str) -> None:
    write_bigbird(tmp_path, "Model")
    path = tmp_path / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    with pytest.raises(ModelError, match=sentence):
        load_model(tmp_path)


def test_its_head_of_answers_is_refused(tmp_path: Path) -> None:
    write_bigbird(tmp_path, "ForQuestionAnswering")
    with pytest.raises(ModelError, match="there is a layer below its head that ours lacks"):
        load_model(tmp_path)
