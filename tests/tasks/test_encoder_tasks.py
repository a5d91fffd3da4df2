"""The tasks of encoders, on random models: what they answer is what the `transformers` library computes."""

import json
import math
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.checkpoints.hub_encoders import write_encoder
from transformers import AutoTokenizer

import trasluz
from trasluz.checkpoints.model_folder import load_model
from trasluz.checkpoints.sentence_vectors import Pooling
from trasluz.errors import ModelError, RequestError
from trasluz.tasks.embedder import Embedder

TEXTS = ["the old miller has forgotten the bread.", "¡ella ve una carta!", "nobody", "it kept seven blue boats, again"]
TAGS = ["O", "B-PER", "I-PER", "B-LOC", "I-LOC"]


def write(folder: Path, class_name: str, **changes: Any) -> tuple[Any, Any]:
    """Write a random model; return the library's model and tokenizer."""
    model = write_encoder(folder, class_name, **changes)
    return model, AutoTokenizer.from_pretrained(folder)


def logits_of(model: Any, tokenizer: Any, *texts: str) -> Any:
    with torch.no_grad():
        return model(**tokenizer(*texts, return_tensors="pt"))


@pytest.mark.parametrize("family", ["Bert", "Roberta", "DistilBert"])
def test_masks_are_filled_as_the_library_would(tmp_path: Path, family: str) -> None:
    model, tokenizer = write(tmp_path, f"{family}ForMaskedLM")
    fill = trasluz.load(tmp_path)
    mask = tokenizer.mask_token
    assert fill.mask_token == mask
    texts = [f"the {mask} has forgotten the {mask}.", f"{mask}", f"nobody sees {mask} !"]
    for text, result in zip(texts, fill(texts, top=3), strict=True):
        ids = tokenizer(text, return_tensors="pt")["input_ids"][0]
        likely = logits_of(model, tokenizer, text).logits[0][ids == tokenizer.mask_token_id].softmax(-1).topk(3)
        assert [[one.token_id for one in found.candidates] for found in result.masks] == likely.indices.tolist()
        probabilities = [[one.probability for one in found.candidates] for found in result.masks]
        np.testing.assert_allclose(probabilities, likely.values.numpy(), rtol=1e-4)
        assert [text[found.start : found.start + len(mask)] for found in result.masks] == [mask] * len(result.masks)
        assert mask not in result.filled
    assert fill(texts[0], top=1).to_dict()["masks"][1]["start"] == texts[0].rindex(mask)
    assert fill("  ").masks == ()


def test_two_classes_of_one_name_are_refused(tmp_path: Path) -> None:
    write(tmp_path, "BertForSequenceClassification", num_labels=3)
    config = json.loads((tmp_path / "config.json").read_text()) | {"id2label": {"0": "a", "1": "a", "2": "b"}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match="id2label names two classes 'a', whose scores could not be told apart"):
        trasluz.load(tmp_path)


def test_what_an_embedder_leaves_out(tmp_path: Path) -> None:
    write(tmp_path, "BertModel")
    loaded = load_model(tmp_path)
    loaded.pooling = Pooling("mean", True, 8)
    embed = Embedder(loaded)
    text = "the bread " * 8
    assert embed.left_out(text) == embed(text).left_out == len(embed.tokenizer.encode(text)) - 6


def test_what_cannot_be_filled(tmp_path: Path) -> None:
    write(tmp_path, "BertForMaskedLM")
    fill = trasluz.load(tmp_path)
    with pytest.raises(RequestError, match=r"text 2 has no \[MASK\], which says what to fill: 'the bread'"):
        fill(["[MASK] bread", "the bread"])
    with pytest.raises(RequestError, match=r"the text has no \[MASK\] among the 40 of its tokens"):
        fill("bread " * 60 + "[MASK]")
    with pytest.raises(RequestError, match="`top` must be from 1 to the vocabulary's 200 tokens, but is 0"):
        fill("[MASK]", top=0)
    with pytest.raises(RequestError, match="`batch_tokens` must be at least 1, but is 0"):
        fill("[MASK]", batch_tokens=0)
    with pytest.raises(RequestError, match="is for the task 'fill-mask' or 'embed', not 'classify'"):
        trasluz.load(tmp_path, task="classify")


@pytest.mark.parametrize("family", ["Bert", "Roberta", "DistilBert"])
def test_labels_of_texts_and_pairs(tmp_path: Path, family: str) -> None:
    model, tokenizer = write(tmp_path, f"{family}ForSequenceClassification")
    classify = trasluz.load(tmp_path)
    for text, result in zip(TEXTS, classify(TEXTS), strict=True):
        expected = logits_of(model, tokenizer, text).logits[0].softmax(-1)
        assert [result.scores[label] for label in classify.labels] == pytest.approx(expected.tolist(), abs=1e-5)
        assert result.label == f"LABEL_{int(expected.argmax())}" and result.labels == (result.label,)
        assert result.score == pytest.approx(float(expected.max()), abs=1e-5)
        alone = classify(text).scores
        assert alone == pytest.approx(result.scores, abs=1e-4)
    pair = classify(TEXTS[0], TEXTS[1])
    expected = logits_of(model, tokenizer, *TEXTS[:2]).logits[0].softmax(-1)
    assert [pair.scores[label] for label in classify.labels] == pytest.approx(expected.tolist(), abs=1e-5)
    assert pair.to_dict()["second_text"] == TEXTS[1]
    with pytest.raises(RequestError, match="`text` is a text, but `second_text` is a list: give two texts, or two li"):
        classify(TEXTS[0], TEXTS[1:2])
    with pytest.raises(RequestError, match="`text` is a list, but `second_text` is a text"):
        classify(["x", "y", "z"], "abc")
    with pytest.raises(RequestError, match="there are 4 texts, but 1 second texts"):
        classify(TEXTS, [TEXTS[0]])


@pytest.mark.parametrize("kind", ["multi_label_classification", "regression"])
def test_labels_of_other_kinds(tmp_path: Path, kind: str) -> None:
    labels = {"num_labels": 1} if kind == "regression" else {}
    model, tokenizer = write(tmp_path, "BertForSequenceClassification", problem_type=kind, **labels)
    found = trasluz.load(tmp_path)(TEXTS[0])
    logits = logits_of(model, tokenizer, TEXTS[0]).logits[0]
    if kind == "regression":
        assert found.labels == ("LABEL_0",) and found.score == pytest.approx(float(logits[0]), abs=1e-5)
    else:
        held = {f"LABEL_{index}" for index, score in enumerate(logits.sigmoid().tolist()) if score >= 0.5}
        assert set(found.labels) == held and list(found.scores.values()) == sorted(found.scores.values(), reverse=True)


@pytest.mark.parametrize("family", ["Bert", "Roberta"])
def test_words_get_the_tag_of_their_first_piece(tmp_path: Path, family: str) -> None:
    model, tokenizer = write(tmp_path, f"{family}ForTokenClassification", seed=5)
    path = tmp_path / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"id2label": dict(enumerate(TAGS))}))
    tag = trasluz.load(tmp_path)
    if family == "Roberta":
        # Trained on words, it has seen a blank before every one of them.
        tokenizer.backend_tokenizer.pre_tokenizer.add_prefix_space = True
    for text, result in zip(TEXTS, tag(TEXTS), strict=True):
        best = logits_of(model, tokenizer, text).logits[0].softmax(-1).max(-1)
        encoding = tokenizer(text)
        first = {word: place for place, word in reversed([*enumerate(encoding.word_ids())]) if word is not None}
        assert [word.tag for word in result.words] == [TAGS[int(best.indices[first[word]])] for word in sorted(first)]
        scores = [float(best.values[first[word]]) for word in sorted(first)]
        assert [word.score for word in result.words] == pytest.approx(scores, abs=1e-5)
        assert [text[word.start : word.end] for word in result.words] == [word.text for word in result.words]
        assert "".join(word.text for word in result.words) == text.replace(" ", "")
        for entity in result.entities:
            assert entity.text == text[entity.start : entity.end] == entity.text.strip()
    assert any(result.entities for result in tag(TEXTS))
    assert tag("").words == ()


@pytest.mark.parametrize("family", ["Bert", "Roberta"])
def test_a_word_has_one_tag_whatever_signs_it_holds(tmp_path: Path, family: str) -> None:
    write(tmp_path, f"{family}ForTokenClassification", seed=5, id2label=dict(enumerate(TAGS)))
    tag = trasluz.load(tmp_path)
    words = ["(", "the", "U.S.", "mill", ")", "O'Neill-Smith", "'s", "A1", "boats", "."]
    text = "(the U.S.  mill) O'Neill-Smith's A1 boats."
    found = tag(text)
    assert [one.text for one in found.words] == words
    assert [text[one.start : one.end] for one in found.words] == words
    # Asked for words with blanks around, it says the same: as it is evaluated, so it is used.
    apart = "the U.S. mill kept O'Neill-Smith and A1 boats"
    (tags,) = tag.tag_words([apart.split()])
    assert [one.tag for one in tag(apart).words] == tags


@pytest.mark.parametrize("names", [None, ["NOUN", "VERB", "DET", "PUNCT", "ADP"], ["O", "PER", "LOC", "ORG", "X"]])
def test_labels_that_are_no_tags_of_entities(tmp_path: Path, names: list[str] | None) -> None:
    write(tmp_path, "BertForTokenClassification", seed=5, **({"id2label": dict(enumerate(names))} if names else {}))
    tag = trasluz.load(tmp_path)
    assert not tag.finds_entities
    for text, result in zip(TEXTS, tag(TEXTS), strict=True):
        assert result.words
        runs = groupby(result.words, lambda word: word.tag)
        wanted = [(label, run[0].start, run[-1].end) for label, run in ((one, list(some)) for one, some in runs)]
        assert [(one.label, one.start, one.end) for one in result.entities] == [one for one in wanted if one[0] != "O"]
        assert all(one.text == text[one.start : one.end] for one in result.entities)


def test_tags_of_bilou_are_those_of_entities(tmp_path: Path) -> None:
    write(tmp_path, "BertForTokenClassification", seed=5, id2label=dict(enumerate("O B-PER L-PER U-PER I-PER".split())))
    tag = trasluz.load(tmp_path)
    assert tag.finds_entities
    found = [one for result in tag(TEXTS) for one in result.entities]
    assert found and {one.label for one in found} == {"PER"}


def test_an_answer_is_the_best_stretch(tmp_path: Path) -> None:
    model, tokenizer = write(tmp_path, "BertForQuestionAnswering")
    answer = trasluz.load(tmp_path)
    question, context = "who kept it?", "the old miller kept the bread, nobody sees it."
    found = answer(question, context, top=3, longest_answer=4)
    theirs = logits_of(model, tokenizer, question, context)
    encoding = tokenizer(question, context)
    places = [place for place, part in enumerate(encoding.sequence_ids()) if part == 1]
    scores = {
        (first, last): float(theirs.start_logits[0, first] + theirs.end_logits[0, last])
        for first in places
        for last in places
        if first <= last < first + 4
    }
    total = math.log(sum(math.exp(score) for score in scores.values()))
    ranked = sorted(scores, key=lambda place: -scores[place])[:3]
    spans = [(encoding.token_to_chars(first).start, encoding.token_to_chars(last).end) for first, last in ranked]
    assert [(one.start, one.end) for one in (found, *found.alternatives)] == spans
    assert [one.text for one in (found, *found.alternatives)] == [context[start:end] for start, end in spans]
    assert found.score == pytest.approx(math.exp(scores[ranked[0]] - total), rel=1e-4)
    assert answer([question], [context])[0].text == answer(question, context).text


def test_a_long_context_is_read_in_windows(tmp_path: Path) -> None:
    _, tokenizer = write(tmp_path, "BertForQuestionAnswering")
    answer = trasluz.load(tmp_path)
    context = " ".join(["the bread", "seven boats", "a letter", "the wind", "it"] * 12)
    found = answer("who?", context, overlap=8, top=5)
    assert all(context[one.start : one.end] == one.text for one in (found, *found.alternatives))
    # Whatever one window alone says best must have been seen.
    windows = answer._windows(*answer.tokenizer.encode_batch(["who?", context]), 8)
    assert len(windows) > 3
    seen = {span for window in windows for span in map(tuple, window.texts[1].spans.tolist())}
    assert seen == set(
        map(tuple, tokenizer(context, return_offsets_mapping=True, add_special_tokens=False)["offset_mapping"])
    )
    # The best stretch of all windows, found here one by one.
    best = (-math.inf, "")
    for window in windows:
        with torch.no_grad():
            scores = answer.head(answer.model(answer._batch([window])))[0].numpy()
        begin, spans = window.begins[1], window.texts[1].spans
        for first in range(len(spans)):
            for last in range(first, min(first + 30, len(spans))):
                score = float(scores[begin + first, 0] + scores[begin + last, 1])
                best = max(best, (score, context[spans[first, 0] : spans[last, 1]]))
    assert found.text == best[1]


def test_no_answer_and_what_cannot_be_answered(tmp_path: Path) -> None:
    model, tokenizer = write(tmp_path, "BertForQuestionAnswering")
    answer = trasluz.load(tmp_path)
    question, context = "who?", "the bread."
    theirs = logits_of(model, tokenizer, question, context)
    nothing = float(theirs.start_logits[0, 0] + theirs.end_logits[0, 0])
    found = answer(question, context, no_answer=True, top=50)
    empty = next(one for one in (found, *found.alternatives) if not one.text)
    assert sum(one.score for one in (found, *found.alternatives)) == pytest.approx(1.0, abs=1e-4)
    # Probabilities are in the ratio that the two sums of logits give.
    encoding = tokenizer(question, context)
    first, last = encoding.char_to_token(0, found.start, 1), encoding.char_to_token(0, found.end - 1, 1)
    best = float(theirs.start_logits[0, first] + theirs.end_logits[0, last]) if found.text else nothing
    assert math.log(found.score / empty.score) == pytest.approx(best - nothing, abs=1e-4)
    assert answer(question, "").text == "" and answer(question, "").score == 1.0
    with pytest.raises(RequestError, match="leave no room for a context among the 40"):
        answer("who " * 60, context)
    with pytest.raises(RequestError, match=r"`overlap` must be from 0 to .* beside this question, but is 128"):
        answer(question, "bread " * 80, overlap=128)
    with pytest.raises(RequestError, match="there are 1 questions, but 2 contexts"):
        answer([question], [context, context])
    with pytest.raises(RequestError, match="`top` must be at least 1, but is 0"):
        answer(question, context, top=0)


def test_vectors(tmp_path: Path) -> None:
    model, tokenizer = write(tmp_path, "BertModel")
    embed = trasluz.load(tmp_path)
    for text in TEXTS:
        states = logits_of(model, tokenizer, text).last_hidden_state[0].numpy()
        pooled = {"cls": states[0], "mean": states.mean(0), "max": states.max(0)}
        for kind, expected in pooled.items():
            vector = embed(text, pooling=kind, normalize=False).vector
            np.testing.assert_allclose(vector, expected, atol=1e-5)
        unit = embed(text).vector
        np.testing.assert_allclose(unit, pooled["mean"] / np.linalg.norm(pooled["mean"]), atol=1e-5)
    together = embed.vectors(TEXTS)
    np.testing.assert_allclose(together, np.stack([embed(text).vector for text in TEXTS]), atol=1e-5)
    assert together.dtype == np.float32 and embed.vectors([]).shape == (0, 21)
    assert [one.text for one in embed.stream(iter(TEXTS))] == TEXTS
    assert np.float32(embed(TEXTS[0]).to_dict()["embedding"][0]) == embed(TEXTS[0]).vector[0]
    assert embed("bread " * 100).left_out > 50
    with pytest.raises(ModelError, match="there is no pooling 'meen'; did you mean mean"):
        embed("text", pooling="meen")


@pytest.mark.parametrize("family", ["Bert", "Roberta", "DistilBert"])
def test_a_row_of_texts_and_a_padded_batch_have_the_same_vectors(tmp_path: Path, family: str) -> None:
    write(tmp_path, f"{family}Model")
    embed = trasluz.load(tmp_path, task="embed")
    shared = embed.vectors(TEXTS)
    embed._shares_rows = False
    np.testing.assert_allclose(shared, embed.vectors(TEXTS), rtol=0, atol=1e-5)


def test_what_every_token_looks_at(tmp_path: Path) -> None:
    model, tokenizer = write(tmp_path, "BertForMaskedLM")
    fill = trasluz.load(tmp_path)
    maps = fill.attention_maps("the old miller", "sees it", layers=[1], heads=[2])
    (one,) = maps
    assert (one.kind, one.layer, one.head) == ("encoder", 1, 2)
    assert (
        one.source_tokens
        == one.target_tokens
        == tokenizer.convert_ids_to_tokens(tokenizer("the old miller", "sees it")["input_ids"])
    )
    with torch.no_grad():
        theirs = model(**tokenizer("the old miller", "sees it", return_tensors="pt"), output_attentions=True).attentions
    np.testing.assert_allclose(one.weights, theirs[1][0, 2].numpy(), atol=1e-5)
    batch = fill.batch(TEXTS)
    with trasluz.record_attention(fill.model, layers=[2], heads=[1]) as record, torch.no_grad():
        recorded = fill.model(batch)
    with torch.no_grad():
        assert torch.equal(recorded, fill.model(batch))
    assert list(record.encoder) == [2] and record.encoder[2].weights.shape[:2] == (4, 1)
    assert fill.attention_place == (1, "mean")


def test_a_mask_looks_and_is_looked_at_as_one_token(tmp_path: Path) -> None:
    model, tokenizer = write(tmp_path, "BertForMaskedLM")
    text, fill = "the [MASK] sees the mill", trasluz.load(tmp_path)
    ids = tokenizer(text)["input_ids"]
    (one,) = fill.attention_maps(text, layers=[1], heads=[2])
    assert one.source_tokens == tokenizer.convert_ids_to_tokens(ids) and "[MASK]" in one.words().target_tokens
    assert fill.batch([text]).ids.tolist() == [ids] and fill.left_out(text) == 0
    with torch.no_grad():
        theirs = model(**tokenizer(text, return_tensors="pt"), output_attentions=True).attentions
    np.testing.assert_allclose(one.weights, theirs[1][0, 2].numpy(), atol=1e-5)
    # A model that guesses no words reads what is written.
    assert "[MASK]" not in trasluz.load(tmp_path, task="embed").attention_maps(text)[0].source_tokens


def test_a_record_around_a_task_has_a_row_for_each_text_in_their_order(tmp_path: Path) -> None:
    write(tmp_path, "BertModel")
    embed = trasluz.load(tmp_path, task="embed")
    with trasluz.record_attention(embed.model) as record:
        embed(TEXTS)
    weights, longest = record.encoder[0].weights, embed.batch(TEXTS).ids.shape[1]
    assert weights.shape == (len(TEXTS), embed.config.num_heads, longest, longest)
    for text, row in zip(TEXTS, weights, strict=True):
        alone = np.stack([one.weights for one in embed.attention_maps(text, layers=[0])])
        length = alone.shape[-1]
        np.testing.assert_allclose(row[:, :length, :length].cpu().numpy(), alone, atol=1e-5)


def test_saved_and_loaded_again(tmp_path: Path) -> None:
    write(tmp_path / "first", "DistilBertForSequenceClassification")
    classify = trasluz.load(tmp_path / "first")
    classify.save(tmp_path / "second")
    assert trasluz.load(tmp_path / "second")(TEXTS) == classify(TEXTS)
    small = trasluz.load(tmp_path / "first", dtype="int8")
    exact, rounded = classify(TEXTS[0]).scores, small(TEXTS[0]).scores
    assert rounded == pytest.approx(exact, abs=0.1)
    with pytest.raises(RequestError, match="loaded as int8, which cannot be saved"):
        small.save(tmp_path / "third")
