"""Runs that learn to answer questions about made-up scenes, what their windows hold, and that they can be resumed."""

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from small_run import run, together
from tests.checkpoints.hub_encoders import write_encoder
from torch.nn.functional import cross_entropy
from transformers import AutoModelForQuestionAnswering

import trasluz
from trasluz.cli.main import run as command
from trasluz.errors import DataError, RecipeError
from trasluz.objectives.answers import AnswerObjective
from trasluz.text.batching import make_answer_batch
from trasluz.text.readers import ReadReport
from trasluz.training.answer_examples import AnsweredQuestion, AnswerStream, in_parts, read_questions
from trasluz.training.answering_job import AnsweringJob
from trasluz.training.data import PreparedData, prepare_data
from trasluz.training.processes import ALONE, Processes, joined
from trasluz.training.recipe import Recipe
from trasluz.training.recipe_file import parse_recipe
from trasluz.training.reports import Chosen, Notice
from trasluz.training.run import run_recipe

# Name, deed, place, hour.
SCENES = [
    ("Irene", "lit the lamp", "the old tower", "at nine"),
    ("Tomás", "baked bread", "the blue kitchen", "before dawn"),
    ("Lucía", "mended a net", "the small harbour", "at noon"),
    ("Bruno", "read a letter", "the empty station", "on Sunday"),
    ("Aurora", "painted a door", "the narrow street", "in May"),
    ("Óscar", "sold three pears", "the covered market", "at ten"),
]
MADE = [
    question
    for name, deed, place, hour in SCENES
    for context in [f"{name} {deed} in {place} {hour}, and nobody else was there."]
    for question in [
        (f"Who {deed}?", context, name),
        (f"Where was {name}?", context, place),
    ]
]


def as_squad(questions: list[tuple[str, str, str]]) -> dict[str, Any]:
    """Return questions, contexts and answers in the form of SQuAD; an empty answer: there is none."""
    paragraphs = [
        {
            "context": context,
            "qas": [
                {
                    "question": question,
                    "answers": [{"text": answer, "answer_start": context.index(answer)}] if answer else [],
                }
                for question, other, answer in questions
                if other == context
            ],
        }
        for context in dict.fromkeys(context for _, context, _ in questions)
    ]
    return {"data": [{"title": "Scenes", "paragraphs": paragraphs}]}


def answer_recipe(
    folder: Path, *overrides: str, name: str = "run", questions: list[tuple[str, str, str]] = MADE
) -> Recipe:
    """Return a recipe that learns the scenes by heart in seconds."""
    return parse_recipe(recipe_text(folder, name, questions), overrides)


def recipe_text(folder: Path, name: str, questions: list[tuple[str, str, str]] = MADE) -> str:
    scenes = folder / "scenes.json"
    if not scenes.exists():
        scenes.write_text(json.dumps(as_squad(questions)), encoding="utf-8")
    return f"""
task: answer
model: {{preset: bert-tiny, model_dim: 32, num_heads: 2, feed_forward_dim: 64, num_layers: 2, max_positions: 48,
  dropout: 0.0, attention_dropout: 0.0}}
data: {{train: {scenes}, valid: {scenes}, max_length: 40}}
tokenizer: {{kind: wordpiece, vocab_size: 300, lowercase: true}}
training: {{max_steps: 150, batch_tokens: 400, warmup_steps: 20, learning_rate: 5e-3, schedule: linear, threads: 1,
  label_smoothing: 0.0}}
evaluation: {{every: 50 steps, patience: null}}
output: {folder / name}
"""


def prepare(recipe: Recipe) -> tuple[AnsweringJob, PreparedData[AnsweredQuestion]]:
    job = AnsweringJob(recipe, None)
    preparing = prepare_data(recipe, job.examples)
    while True:
        try:
            next(preparing)
        except StopIteration as end:
            return job, end.value


def test_scenes_are_learnt_by_heart_and_served(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "recipe.yaml").write_text(recipe_text(tmp_path, "run"), encoding="utf-8")
    assert command(["train", str(tmp_path / "recipe.yaml")]) == 0
    capsys.readouterr()
    folder, scenes = str(tmp_path / "run"), str(tmp_path / "scenes.json")
    assert command(["evaluate", folder, "--data", scenes, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["exact_match"] == 100.0 and report["answer_f1"] == 100.0
    answer = trasluz.load(folder)
    for question, context, expected in MADE:
        found = answer(question, context)
        assert found.text == expected and context[found.start : found.end] == expected
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert config["architectures"] == ["BertForQuestionAnswering"]
    theirs = AutoModelForQuestionAnswering.from_pretrained(folder)
    batch = answer.batch([MADE[0][0]], [MADE[0][1]])
    with torch.no_grad():
        logits = answer.head(answer.model(batch))[0]
        found = theirs(input_ids=batch.ids, token_type_ids=batch.segments)
    torch.testing.assert_close(torch.stack([found.start_logits[0], found.end_logits[0]], 1), logits)
    card = (tmp_path / "run" / "README.md").read_text()
    assert "finds answers in a text" in card and "pipeline_tag: question-answering" in card and "exact_match" in card
    assert "\\|rules:squad-1.1\\|longest:30\\|window:" in card
    assert "task: answer" in (tmp_path / "run" / "recipe.yaml").read_text()


def test_contexts_without_an_answer_are_told_from_others(tmp_path: Path) -> None:
    # Asked about somebody else's scene.
    contexts = [context for _, context, _ in MADE]
    strange = [(question, contexts[(place + 2) % len(MADE)], "") for place, (question, _, _) in enumerate(MADE)]
    recipe = answer_recipe(tmp_path, "training.max_steps=300", questions=MADE + strange)
    assert recipe.evaluation.metric == "answer_f1"
    metrics = next(report.metrics for report in run(recipe) if isinstance(report, Chosen))
    assert metrics["exact_match"] == 100.0 and metrics["answer_f1"] == 100.0 and metrics["loss"] < 0.3
    answer = trasluz.load(tmp_path / "run")
    question, context, _ = strange[0]
    assert answer(question, context, no_answer=True).text == "" and answer(question, context).text != ""
    assert answer(*MADE[0][:2], no_answer=True).text == MADE[0][2]


def test_training_windows_hold_the_answer_or_point_at_the_first_position(tmp_path: Path) -> None:
    draw = random.Random(3)
    words = ["cámara", "🕯️", "光と紙", "e\u0301toile", "the", "lamp", "3,50", "«sí»", "well-lit", "ñandú"]
    rows = []
    for number in range(40):
        text = [draw.choice(words) for _ in range(draw.randint(1, 40))]
        first = draw.randrange(len(text))
        answer = " ".join(text[first : first + 3])
        start = len(" ".join([*text[:first], ""]))
        row = {"question": f"what {number}?", "context": " ".join(text), "answer": answer, "answer_start": start}
        rows.append(row if number % 5 else row | {"answer": [], "answer_start": []})
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    path = f"data.train={tmp_path / 'rows.jsonl'}"
    recipe = answer_recipe(tmp_path, path, "data.max_length=24", "data.overlap=6", "tokenizer.lowercase=false")
    job, data = prepare(recipe)
    model: Any = job.build_model(data)
    stream: AnswerStream = job.stream(data, model, ALONE)
    tokenizer = data.source_tokenizer
    examples = list(read_questions(str(tmp_path / "rows.jsonl"), on_error="stop", report=ReadReport()))
    windows: Iterator[int] = iter(range(len(data.cache)))
    for example, (question, parts, _) in zip(examples, in_parts(examples, tokenizer, 24, 6), strict=True):
        answered = 0
        covered: set[int] = set()
        for part in parts:
            number = next(windows)
            batch = stream.batch([number])
            assert stream.place(number) == str(example.place)
            (first, last), (allowed,) = batch.spans[0].tolist(), batch.allowed.numpy()
            begin = tokenizer.second_offset() + len(question)
            assert np.flatnonzero(allowed).tolist() == [0, *range(begin, begin + len(part.text))]
            assert batch.texts.ids[0, begin : begin + len(part.text)].tolist() == part.text.ids.tolist()
            assert batch.texts.segments[0, begin] == 1 and int(batch.texts.lengths[0]) <= 24
            covered.update(range(part.begin, part.begin + len(part.text)))
            if first:
                spans = part.text.spans
                found = example.context[spans[first - begin, 0] : spans[last - begin, 1]]
                assert found == example.answers[0]
                answered += 1
            else:
                assert last == 0
        assert (answered > 0) == bool(example.answers)
        assert covered == set(range(len(tokenizer.encode(example.context))))
    assert next(windows, None) is None and len(data.cache) > 50


def test_the_loss_is_the_mean_of_two_cross_entropies(tmp_path: Path) -> None:
    write_encoder(tmp_path / "bert", "BertForQuestionAnswering")
    model: Any = trasluz.load(tmp_path / "bert").model
    texts = [([2, 9, 3, 11, 12, 13, 3], [0, 0, 0, 1, 1, 1, 1]), ([2, 20, 3, 5, 3], [0, 0, 0, 1, 1])]
    batch = make_answer_batch(texts, [(3, 3), (3, 1)], [(1, 2), None], pad_id=0)
    assert batch.spans.tolist() == [[4, 5], [0, 0]]
    assert batch.allowed.tolist() == [
        [True, False, False, True, True, True, False],
        [True, *[False] * 2, True, *[False] * 3],
    ]
    logits = model.heads["answer"](model(batch.texts))
    # Over the positions that are allowed, in their order.
    first, second = logits[0, [0, 3, 4, 5]], logits[1, [0, 3]]
    ends = [(first[:, 0], 2), (first[:, 1], 3), (second[:, 0], 0), (second[:, 1], 0)]
    for smoothing in (0.0, 0.2):
        loss = AnswerObjective(smoothing)(model, batch)
        parts = [cross_entropy(scores, torch.tensor(target), label_smoothing=smoothing) for scores, target in ends]
        torch.testing.assert_close(loss.total, sum(parts, torch.tensor(0.0)) / 2)
        assert loss.count == 2
        plain = [cross_entropy(scores, torch.tensor(target)) for scores, target in ends]
        torch.testing.assert_close(loss.likelihood, sum(plain, torch.tensor(0.0)) / 2)
    loss.total.backward()
    assert all(torch.isfinite(weights.grad).all() for weights in model.parameters() if weights.grad is not None)


def test_contexts_are_held_out_whole_and_kept_away(tmp_path: Path) -> None:
    (tmp_path / "unseen.jsonl").write_text(
        json.dumps({"question": "Anybody?", "context": MADE[0][1], "answer": "", "answer_start": ""})
    )
    recipe = answer_recipe(
        tmp_path, "data.valid=null", "data.held_out=3", f"data.exclude=[{tmp_path / 'unseen.jsonl'}]"
    )
    notices = [report.text for report in prepare_notices(recipe)]
    assert "8 training questions; left out: 2 sharing a text with excluded data, 2 held out" in " ".join(notices)
    (path,) = tmp_path.glob("run/cache/*/held_out.jsonl")
    held = list(read_questions(str(path), on_error="stop", report=ReadReport()))
    assert len(held) == 2 and len({one.context for one in held}) == 1
    _, data = prepare(recipe)
    assert [one[:4] for one in data.valid] == [one[:4] for one in held]


def prepare_notices(recipe: Recipe) -> list[Notice]:
    return [
        report for report in prepare_data(recipe, AnsweringJob(recipe, None).examples) if isinstance(report, Notice)
    ]


def test_questions_without_room_are_counted_or_answered_by_nothing(tmp_path: Path) -> None:
    long = ("Who " + "was there " * 30 + "?", MADE[0][1], "Irene")
    recipe = answer_recipe(tmp_path, questions=[*MADE, long])
    assert "1 too long" in " ".join(one.text for one in prepare_notices(recipe))
    job, data = prepare(recipe)
    model: Any = job.build_model(data)
    evaluator = job.evaluator(data, model, torch.device("cpu"), ALONE)
    with torch.inference_mode():
        metrics = evaluator(model.eval())
    assert evaluator._answers({})[-1] == "" and metrics["exact_match"] <= 100 * len(MADE) / (len(MADE) + 1)


def test_validation_questions_that_all_have_no_room_are_refused(tmp_path: Path) -> None:
    long = {"question": "Who " + "was there " * 30 + "?", "context": MADE[0][1], "answer": "", "answer_start": ""}
    (tmp_path / "valid.jsonl").write_text(json.dumps(long))
    job, data = prepare(answer_recipe(tmp_path, f"data.valid={tmp_path / 'valid.jsonl'}"))
    with pytest.raises(DataError, match=r"data\.valid: every validation question is so long that no context has room"):
        job.evaluator(data, job.build_model(data), torch.device("cpu"), ALONE)


def test_processes_that_share_the_windows_say_the_same(tmp_path: Path) -> None:
    # Windows of one question are looked at here and there.
    job, data = prepare(answer_recipe(tmp_path, "data.max_length=16", "data.overlap=4"))
    torch.manual_seed(2)
    model: Any = job.build_model(data).eval()

    def measured(processes: Processes) -> dict[str, float]:
        with torch.inference_mode():
            return job.evaluator(data, model, torch.device("cpu"), processes)(model)

    alone = measured(ALONE)

    def work(rank: int) -> None:
        with joined("ddp", "cpu") as processes:
            assert measured(processes) == pytest.approx(alone)

    assert len(data.cache) > len(MADE) == data.counts.used
    assert together(2, work) == [0, 0]


def test_what_cannot_be_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"data\.max_length is 64, but the model takes 48 tokens"):
        run(answer_recipe(tmp_path, "data.max_length=64"))
    with pytest.raises(RecipeError, match=r"data\.max_length is 4, which leaves no room for text"):
        run(answer_recipe(tmp_path, "data.max_length=4", name="short"))
    with pytest.raises(RecipeError, match="transformer-tiny does not find answers"):
        run(answer_recipe(tmp_path, "model=transformer-tiny"))
    with pytest.raises(RecipeError, match=r"data\.overlap means nothing to the task classify: it is for answer"):
        answer_recipe(tmp_path, "task=classify", "data.overlap=7", "evaluation.metric=accuracy")
    with pytest.raises(RecipeError, match=r"by which this task is not judged: it can be answer_f1, exact_match, loss"):
        answer_recipe(tmp_path, "evaluation.metric=bleu")
    (tmp_path / "bad.json").write_text(json.dumps(as_squad(MADE)).replace('"answer_start": 0', '"answer_start": 1'))
    with pytest.raises(DataError, match=r"bad\.json: data\[0\]\.paragraphs\[0\]\.qas\[0\]: the answer does not stand"):
        run(answer_recipe(tmp_path, f"data.train={tmp_path / 'bad.json'}", name="bad"))
    skipping = answer_recipe(tmp_path, f"data.train={tmp_path / 'bad.json'}", "data.on_error=skip", name="bad")
    assert "6 malformed" in " ".join(one.text for one in prepare_notices(skipping))


def test_stopped_and_resumed_it_is_the_same_to_the_bit(tmp_path: Path) -> None:
    short = ("training.schedule=constant", "evaluation.every=10 steps")
    run(answer_recipe(tmp_path, *short, "training.max_steps=20", name="whole"))
    run(answer_recipe(tmp_path, *short, "training.max_steps=10", name="half"))
    list(run_recipe(answer_recipe(tmp_path, *short, "training.max_steps=20", name="half"), resume=True))
    first, second = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "half"))
    assert all(torch.equal(first[key], second[key]) for key in first)
