"""The head of a model card: what Hugging Face's hub reads at the top of a README.md, as YAML.

model-index: one result a score: task, data set and split, metric with its value and signature
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import yaml

_HUB_TASKS = {
    "translate": "translation",
    "classify": "text-classification",
    "tag": "token-classification",
    "answer": "question-answering",
    "embed": "sentence-similarity",
    "generate": "text-generation",
}


@dataclass(frozen=True)
class Score:
    """One figure: which metric, on which data, and the signature that says how it was counted."""

    metric: str
    value: float
    dataset: str
    split: str = "validation"
    signature: str = ""


def card_head(
    name: str,
    task: str,
    languages: Sequence[str],
    *,
    licence: str | None = None,
    datasets: Sequence[str] = (),
    base_model: str | None = None,
    scores: Sequence[Score] = (),
) -> str:
    """Return the head with its fences; what is not known is left out."""
    hub_task = _HUB_TASKS.get(task, task)
    head: dict[str, Any] = {
        "language": list(languages),
        "license": licence,
        "library_name": "trasluz",
        "pipeline_tag": hub_task,
        "tags": ["trasluz", hub_task, "attention"],
        "datasets": list(datasets),
        "metrics": sorted({score.metric for score in scores}),
        "base_model": base_model,
        "model-index": _model_index(name, hub_task, scores),
    }
    known = {key: value for key, value in head.items() if value}
    return f"---\n{yaml.safe_dump(known, sort_keys=False, allow_unicode=True, width=1000)}---\n"


def plain_card(name: str, task: str, languages: Sequence[str], both_directions: bool) -> str:
    """Return the card of a model that nobody has written about."""
    arrow = " <-> " if both_directions else " -> "
    return (
        f"{card_head(name, task, languages)}\n# {name}\n\n"
        f"A model for the task `{task}`{': ' + arrow.join(languages) if languages else ''}. How it was trained, on "
        "what, and how good it is was not written down.\n\n"
        '```python\nimport trasluz\n\nmodel = trasluz.load("PATH OF THIS FOLDER")\n```\n'
    )


def _model_index(name: str, hub_task: str, scores: Sequence[Score]) -> list[dict[str, Any]]:
    results: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for score in scores:
        metric: dict[str, Any] = {"type": score.metric, "value": round(score.value, 4), "name": score.metric}
        if score.signature:
            metric["args"] = {"signature": score.signature}
        results.setdefault((score.dataset, score.split), []).append(metric)
    if not results:
        return []
    return [
        {
            "name": name,
            "results": [
                {
                    "task": {"type": hub_task, "name": hub_task},
                    "dataset": {"type": dataset, "name": dataset, "split": split},
                    "metrics": metrics,
                }
                for (dataset, split), metrics in results.items()
            ],
        }
    ]
