"""Perplexity by sliding window equals a loop that guesses each token from what its window shows."""

import copy
import math
from typing import Any

import numpy as np
import pytest
import torch
from tests.checkpoints.hub_gpts import write_gpt

import trasluz
from trasluz.errors import RequestError
from trasluz.tasks.generator import Generator
from trasluz.tasks.perplexity import measure_perplexity, windows_over
from trasluz.text.batching import make_causal_batch
from trasluz.text.documents import document_ids
from trasluz.training.causal_job import NextWordsEvaluator

TEXTS = ["the old miller carries a letter to the river and comes back in the evening", "a lamp", "ñ " * 30]


@pytest.fixture(scope="module")
def generator(tmp_path_factory: pytest.TempPathFactory) -> Generator:
    folder = tmp_path_factory.mktemp("gpt")
    write_gpt(folder, n_positions=20)
    return trasluz.load(folder)  # type: ignore[return-value]


def by_hand(generator: Any, ids: list[int], stride: int) -> list[float]:
    """Return the loss of every token but the first, each from the window in which it first appears as a target."""
    window, losses = generator.longest_text, []
    for place in range(1, len(ids)):
        number = max(0, -(-(place - window) // stride))
        seen = ids[number * stride : place]
        assert place <= window or window - stride < len(seen) <= window
        with torch.no_grad():
            logits = generator.model.output_head(generator.model(make_causal_batch([[*seen, 0]], pad_id=0)))[0, -1]
        losses.append(-float(logits.log_softmax(-1)[ids[place]]))
    return losses


@pytest.mark.parametrize("stride", [None, 1, 7, 20])
def test_it_is_that_of_a_plain_loop(generator: Generator, stride: int | None) -> None:
    measured = measure_perplexity(generator, TEXTS, stride=stride, batch_tokens=70)
    end, encode = generator.config.eos_id, generator.tokenizer.encode
    losses = [loss for text in TEXTS for loss in by_hand(generator, [end, *encode(text), end], stride or 10)]
    assert measured.tokens == len(losses) and measured.documents == 3
    assert measured.loss == pytest.approx(sum(losses) / len(losses), rel=1e-5)
    assert measured.perplexity == pytest.approx(math.exp(measured.loss))
    assert measured.signature == f"tokens:{len(losses)}|documents:3|window:20|stride:{stride or 10}"


def test_windows_side_by_side_are_those_of_training(generator: Generator) -> None:
    end = generator.config.eos_id
    (ids,) = document_ids(generator.tokenizer, TEXTS[:1], end)
    evaluator = NextWordsEvaluator(ids, 20, end, torch.device("cpu"))
    with torch.no_grad():
        expected = evaluator(generator.model)
    measured = measure_perplexity(generator, TEXTS[:1], stride=20)
    assert measured.loss == pytest.approx(expected["loss"], rel=1e-5) and measured.tokens == len(ids)


def test_every_token_but_the_first_is_in_one_window() -> None:
    for length in range(1, 30):
        for stride in (1, 3, 8):
            found = list(windows_over(np.arange(length), 8, stride))
            scored = [token for one in found for token in one.ids[len(one.ids) - one.counted :].tolist()]
            assert scored == list(range(1, length)) and all(len(one.ids) <= 9 for one in found)


def test_what_cannot_be_measured_is_refused(generator: Generator) -> None:
    for stride in (0, 21):
        with pytest.raises(RequestError, match="`stride` must be from 1 to the win"):
            measure_perplexity(generator, TEXTS, stride=stride)
    endless = copy.copy(generator)
    endless.config = generator.config.model_copy(update={"eos_id": None})
    with pytest.raises(RequestError, match="no document has two tokens, of which one could be guessed"):
        measure_perplexity(endless, ["a"])
    # Without such a token the first of a document is only read.
    assert measure_perplexity(endless, ["a lamp", "a"]).tokens == len(generator.tokenizer.encode("a lamp")) - 1
