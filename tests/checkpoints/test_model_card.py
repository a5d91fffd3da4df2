"""The head of a model card is what the hub expects."""

import yaml

from trasluz.checkpoints.model_card import Score, card_head, plain_card


def test_head() -> None:
    head = card_head(
        "to-and-fro",
        "translate",
        ["en", "es"],
        licence="apache-2.0",
        datasets=["tatoeba"],
        scores=[
            Score("bleu", 31.23456, "tatoeba", "test", "nrefs:1|case:mixed"),
            Score("chrf", 55.0, "tatoeba", "test"),
            Score("bleu", 20.0, "news"),
        ],
    )
    assert head.startswith("---\n") and head.endswith("---\n")
    content = yaml.safe_load(head.strip("-\n"))
    assert content["language"] == ["en", "es"]
    assert (content["license"], content["pipeline_tag"], content["metrics"]) == (
        "apache-2.0",
        "translation",
        ["bleu", "chrf"],
    )
    first, second = content["model-index"][0]["results"]
    assert first["dataset"] == {"type": "tatoeba", "name": "tatoeba", "split": "test"}
    assert first["metrics"][0] == {
        "type": "bleu",
        "value": 31.2346,
        "name": "bleu",
        "args": {"signature": "nrefs:1|case:mixed"},
    }
    assert second["metrics"] == [{"type": "bleu", "value": 20.0, "name": "bleu"}]


def test_what_is_not_known_is_left_out() -> None:
    content = yaml.safe_load(card_head("m", "translate", []).strip("-\n"))
    assert set(content) == {"library_name", "pipeline_tag", "tags"}
    assert "# m\n" in plain_card("m", "translate", ["en", "es"], True)
    assert "en <-> es" in plain_card("m", "translate", ["en", "es"], True)
