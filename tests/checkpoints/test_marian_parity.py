"""Marian models of odd sizes give here what they give in `transformers`: logits, attention, translations."""

import os
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.checkpoints.hub_models import ODD_SIZES, write_marian
from tests.checkpoints.sentences import pairs
from torch import Tensor
from transformers import AutoTokenizer, MarianMTModel
from transformers.utils import logging

import trasluz
from trasluz.checkpoints.model_folder import load_model
from trasluz.inspection.recorder import record_attention
from trasluz.models.marian import key_map
from trasluz.text.batching import TranslationBatch

# All 200 of the promise with TRASLUZ_MARIAN_SENTENCES=200.
NUM_SENTENCES = int(os.environ.get("TRASLUZ_MARIAN_SENTENCES", "24"))


@pytest.fixture(autouse=True, scope="module")
def quiet() -> None:
    logging.set_verbosity_error()
    logging.disable_progress_bar()


@pytest.fixture(scope="module", params=list(ODD_SIZES))
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("marian") / request.param
    write_marian(folder, seed=list(ODD_SIZES).index(request.param), **ODD_SIZES[request.param])
    return folder


def reference_pass(folder: Path, batch: TranslationBatch) -> Any:
    model = MarianMTModel.from_pretrained(folder, attn_implementation="eager").eval()
    mask = torch.arange(batch.source.shape[1]) < batch.source_lengths[:, None]
    with torch.no_grad():
        return model(
            input_ids=batch.source,
            attention_mask=mask.long(),
            decoder_input_ids=batch.target_input,
            output_attentions=True,
        )


def test_logits_and_attention(folder: Path) -> None:
    sources, targets = zip(*pairs(5, seed=1), strict=True)
    translator = trasluz.load(folder)
    batch = translator.batch(list(sources), list(targets))
    theirs = reference_pass(folder, batch)
    with torch.no_grad(), record_attention(translator.model) as record:
        logits = translator.model.output_head(translator.model(batch))
    real = torch.arange(batch.target_output.shape[1]) < batch.target_lengths[:, None]
    assert float((logits - theirs.logits)[real].abs().max()) < 2e-5
    assert (logits[real].argmax(-1) == theirs.logits[real].argmax(-1)).all()
    attentions = {
        "encoder": theirs.encoder_attentions,
        "decoder": theirs.decoder_attentions,
        "cross": theirs.cross_attentions,
    }
    for kind, layers in attentions.items():
        recorded = getattr(record, kind)
        assert len(recorded) == len(layers)
        for layer, weights in enumerate(layers):
            rows = batch.source_lengths if kind == "encoder" else batch.target_lengths
            for row, length in enumerate(rows.tolist()):
                assert_close(recorded[layer].weights[row, :, :length], weights[row, :, :length])


def assert_close(ours: Tensor, theirs: Tensor) -> None:
    assert ours.shape == theirs.shape
    assert float((ours - theirs).abs().max()) < 2e-5


def test_beam_4_translates_alike(folder: Path) -> None:
    translator = trasluz.load(folder)
    assert (translator.settings.beam, translator.settings.normalization) == (4, "power")
    assert_translates_alike(folder, translator)
    # Random models repeat themselves until the last position; those that may not have more to decide.
    ours = assert_translates_alike(folder, translator, 2)
    assert len({len(translation.target_ids) for translation in ours}) > 1


def assert_translates_alike(
    folder: Path, translator: Any, no_repeat_ngram: int | None = None
) -> list[trasluz.Translation]:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = MarianMTModel.from_pretrained(folder).eval()
    texts = [source for source, _ in pairs(NUM_SENTENCES, seed=2)]
    ours: list[trasluz.Translation] = translator(texts, no_repeat_ngram=no_repeat_ngram)
    padded = tokenizer(texts, return_tensors="pt", padding=True)
    changed = {} if no_repeat_ngram is None else {"no_repeat_ngram_size": no_repeat_ngram}
    answer = model.generate(**padded, **changed, output_scores=True, return_dict_in_generate=True)
    scores = answer.sequences_scores.tolist() if "sequences_scores" in answer else [None] * len(texts)
    for row, (mine, score) in enumerate(zip(ours, scores, strict=True)):
        ids = padded.input_ids[row][padded.attention_mask[row].bool()]
        assert tuple(ids.tolist()) == mine.source_ids
        if score is not None:
            # Where the texts differ, this is what makes it a tie.
            assert mine.score == pytest.approx(score, abs=1e-4)
        theirs = tokenizer.decode(answer.sequences[row], skip_special_tokens=True)
        assert score is not None or theirs == mine.text
        if theirs == mine.text:
            length = len(mine.target_ids)
            assert mine.target_ids == tuple(answer.sequences[row, 1 : 1 + length].tolist())
    different = sum(
        tokenizer.decode(ids, skip_special_tokens=True) != mine.text
        for ids, mine in zip(answer.sequences, ours, strict=True)
    )
    assert different <= len(texts) // 50
    return ours


@pytest.mark.parametrize(
    "generation",
    [
        {"length_penalty": 0.6, "renormalize_logits": True, "bad_words_ids": [[3], [5], [70]]},
        {"length_penalty": 1.4, "no_repeat_ngram_size": 2, "num_beams": 3},
        {"num_beams": 1},
        {"max_length": 9},
        {"max_length": 9, "renormalize_logits": True, "num_beams": 2},
    ],
)
def test_generation_config_is_followed(tmp_path: Path, generation: dict[str, Any]) -> None:
    write_marian(tmp_path, seed=3, generation=generation)
    assert_translates_alike(tmp_path, trasluz.load(tmp_path))


def test_read_then_written_is_equal_to_the_bit(folder: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file

    trasluz.load(folder).save(tmp_path)
    before, after = load_file(folder / "model.safetensors"), load_file(tmp_path / "model.safetensors")
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    # And transformers loads what was written, tokenizer included.
    text = pairs(1, seed=9)[0][0]
    old, new = (AutoTokenizer.from_pretrained(place)([text]).input_ids for place in (folder, tmp_path))
    assert old == new
    answers = [MarianMTModel.from_pretrained(place).generate(torch.tensor(old)) for place in (folder, tmp_path)]
    assert torch.equal(*answers)


def test_half_precision_and_shards(tmp_path: Path) -> None:
    model = write_marian(tmp_path / "half").half()
    model.save_pretrained(tmp_path / "half", max_shard_size="8KB")
    assert len(list((tmp_path / "half").glob("model-*.safetensors"))) > 2
    (tmp_path / "half" / "model.safetensors").unlink()
    loaded = load_model(tmp_path / "half")
    assert {parameter.dtype for parameter in loaded.model.parameters()} == {torch.float32}
    theirs = key_map(loaded.config).write(dict(loaded.model.named_parameters()))
    for name, tensor in theirs.items():
        assert torch.equal(tensor, model.state_dict()[name].float())
