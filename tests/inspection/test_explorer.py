"""The page: whole in itself, safe with any token, and holding every map it was given."""

import base64
import hashlib
import html
import json
import os
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from trasluz.errors import RequestError
from trasluz.inspection import explorer
from trasluz.inspection.attention_map import AttentionMap
from trasluz.inspection.explorer import SCALE, explorer_page

HOSTILE = [
    "</script><script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "<!--",
    "]]>",
    "&lt;b&gt;",
    "'\"`${1}",
    "{{script}}",
    "\u2028\u2029",
    "\ud800",
    "</title><svg onload=alert(1)>",
]


def example(
    source: list[str], target: list[str], kind: Any = "cross", layer: Any = 0, head: Any = 0, **rest: Any
) -> AttentionMap:
    seed = 10 * (layer if layer != "mean" else 9) + (head if head != "mean" else 9)
    weights = np.random.default_rng(seed).dirichlet([0.3] * len(source), size=len(target)).astype(np.float32)
    return AttentionMap(weights, source, target, kind=kind, layer=layer, head=head, **rest)


class Elements(HTMLParser):
    """Every element of a page with its attributes, and the text inside scripts and styles."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.inside: list[str] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        if tag in ("script", "style"):
            self.inside.append("")

    def handle_data(self, data: str) -> None:
        if self.found and self.found[-1][0] in ("script", "style") and self.cdata_elem:
            self.inside[-1] += data


def data_of(page: str) -> Any:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    assert found is not None
    return json.loads(found.group(1))


def test_hostile_tokens_add_no_element_to_the_page() -> None:
    plain = Elements(explorer_page([example(["a"] * 10, ["b"] * 10, model="m")], title="t")).found
    page = explorer_page([example(HOSTILE, HOSTILE[::-1], model=HOSTILE[0])], title=HOSTILE[-1])
    assert Elements(page).found == plain
    for token in HOSTILE[:3]:
        assert token not in page
    page.encode("utf-8")


def test_tokens_arrive_as_people_see_them() -> None:
    side = data_of(explorer_page([example(HOSTILE, ["x"])]))["sentences"][0]["kinds"]["cross"]["columns"]
    assert side["tokens"][:6] == HOSTILE[:6]
    assert side["tokens"][7:9] == ["␤␤", "\ufffd"]


def test_the_page_asks_nothing_of_the_network() -> None:
    page = explorer_page([example(["a"], ["b"])])
    assert not re.search(
        r"https?:|//[a-z]|@import|url\((?!#)|fetch\(|XMLHttp|WebSocket|localStorage|cookie|eval\(", page
    )
    addresses = [
        value for _, attributes in Elements(page).found for name, value in attributes.items() if name in ("src", "href")
    ]
    assert addresses == ["data:,"]


def test_only_the_pages_own_script_and_style_may_run() -> None:
    page = explorer_page([example(["a"], ["b"])])
    elements = Elements(page)
    policy = next(a["content"] for tag, a in elements.found if a.get("http-equiv") == "Content-Security-Policy")
    assert policy is not None
    style, _, script = elements.inside
    for kind, content in (("script", script), ("style", style)):
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}';" in policy
    assert policy.startswith("default-src 'none';")
    assert "unsafe" not in policy
    assert not [a for _, a in elements.found for name in a if name == "style" or name.startswith("on")]
    assert "innerHTML" not in script and "outerHTML" not in script and "insertAdjacent" not in script


def test_weights_are_thousandths_of_the_given_ones() -> None:
    one = example(["a", "b", "c"], ["x", "y"], layer=2, head="mean")
    data = data_of(explorer_page([one]))
    (written,) = data["sentences"][0]["kinds"]["cross"]["maps"]
    assert (written["layer"], written["head"], data["scale"]) == (2, "mean", SCALE)
    np.testing.assert_allclose(np.array(written["weights"]).reshape(2, 3) / SCALE, one.weights, atol=0.5 / SCALE)


@pytest.mark.parametrize("length", [200, 1400])
def test_the_weights_of_a_long_text_still_add_up(length: int) -> None:
    words = ["a"] * length
    weights = np.random.default_rng(1).dirichlet([4.0] * length, size=2).astype(np.float32)
    data = data_of(explorer_page([AttentionMap(weights, words, ["b", "c"])]))
    (written,) = data["sentences"][0]["kinds"]["cross"]["maps"]
    assert data["scale"] >= 10 * SCALE
    rows = np.array(written["weights"]).reshape(2, length) / data["scale"]
    np.testing.assert_allclose(rows.sum(1), 1.0, atol=0.02)


def test_words_travel_with_their_pieces() -> None:
    one = example(["▁lan", "tern", "</s>"], ["fa", "rol"], source_words=[[0, 1], [2]], target_words=[[0, 1]])
    kind = data_of(explorer_page([one]))["sentences"][0]["kinds"]["cross"]
    assert kind["columns"] == {
        "tokens": ["▁lan", "tern", "</s>"],
        "words": ["lantern", "</s>"],
        "groups": [[0, 1], [2]],
        "rtl": False,
    }
    assert kind["rows"]["words"] == ["farol"]
    merged = data_of(explorer_page([one.words()]))["sentences"][0]["kinds"]["cross"]
    assert (merged["columns"]["tokens"], merged["columns"]["groups"]) == (["lantern", "</s>"], None)


def test_right_to_left_sentences_run_from_the_right() -> None:
    kind = data_of(explorer_page([example(["the", "light", "."], ["هذا", "النور", "."])]))["sentences"][0]["kinds"][
        "cross"
    ]
    assert (kind["columns"]["rtl"], kind["rows"]["rtl"]) == (False, True)


@pytest.mark.parametrize("by_kind", [False, True])
def test_maps_are_grouped_by_sentence_whatever_their_order(by_kind: bool) -> None:
    sentences = [(["a", "b"], ["x", "y"]), (["a", "c"], ["v", "z"])]
    maps = []
    for source, target in sentences:
        for layer in range(2):
            maps += [
                example(source, target, "cross", layer),
                example(source, source, "encoder", layer),
                # The decoder sees its words one place later than it gives them.
                example(["<s>", target[0]], ["<s>", target[0]], "decoder", layer),
            ]
    if by_kind:
        maps.sort(key=lambda one: ["cross", "encoder", "decoder"].index(one.kind))
    grouped = data_of(explorer_page(maps))["sentences"]
    assert [one["label"] for one in grouped] == ["a b", "a c"]
    assert list(grouped[0]["kinds"]) == ["cross", "encoder", "decoder"]
    for sentence, (source, target) in zip(grouped, sentences, strict=True):
        assert sentence["kinds"]["cross"]["rows"]["tokens"] == target
        assert sentence["kinds"]["encoder"]["rows"]["tokens"] == source
        assert [one["layer"] for one in sentence["kinds"]["cross"]["maps"]] == [0, 1]


def test_the_same_sentence_by_two_models_is_two_sentences() -> None:
    maps = [example(["a"], ["b"], model="one"), example(["a"], ["b"], model="two"), example(["a"], ["b"], model="two")]
    assert [one["model"] for one in data_of(explorer_page(maps))["sentences"]] == ["one", "two", "two"]


def test_title_and_language_may_be_given() -> None:
    page = explorer_page([example(["a"], ["b"])], title="Faroles & luces", language="es")
    assert "<title>Faroles &amp; luces</title>" in page
    assert data_of(page)["title"] == "Faroles & luces"
    assert data_of(page)["language"] == "es"
    assert data_of(explorer_page([example(["a"], ["b"], layer=3)]))["first"] == {"kind": "cross", "layer": 3, "head": 0}


def test_both_languages_have_every_text() -> None:
    source = explorer._part("language.js")
    english, spanish = source.split("  es: {")
    keys = re.compile(r"^ {4}(\w+):", re.MULTILINE)
    assert keys.findall(english) == keys.findall(spanish)
    assert len(keys.findall(english)) > 15


def test_too_many_weights_are_refused_with_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(explorer, "MOST_WEIGHTS", 1_000_000)
    one = AttentionMap(np.zeros((1000, 1100), dtype=np.float32), ["a"] * 1100, ["b"] * 1000)
    with pytest.raises(RequestError, match=r"1\.1 million weights are too many.*holds 1 million: choose fewer layers"):
        explorer_page([one])
    with pytest.raises(RequestError, match="no attention map to show"):
        explorer_page([])


def test_the_page_stays_small() -> None:
    source = [f"word{i}" for i in range(30)]
    maps = [example(source, source, layer=layer, head=head) for layer in range(6) for head in range(8)]
    assert len(explorer_page(maps)) < 45_000 + 48 * 900 * 3


def test_it_is_saved_by_its_ending(tmp_path: Path) -> None:
    example(["a", "ñ"], ["日本"]).save(tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert page == explorer_page([example(["a", "ñ"], ["日本"])])


def test_a_notebook_shows_it_in_a_frame_of_its_own() -> None:
    frame = example(HOSTILE, ["b"])._repr_html_()
    ((tag, attributes),) = Elements(frame).found
    assert tag == "iframe"
    assert attributes["sandbox"] == "allow-scripts"
    assert attributes["srcdoc"] == explorer_page([example(HOSTILE, ["b"])])
    assert html.escape("<script") in frame


@pytest.fixture(scope="module")
def browser() -> str:
    """The browser named by TRASLUZ_BROWSER (Chromium or Chrome); the tests that open the page need one."""
    found = shutil.which(os.environ.get("TRASLUZ_BROWSER", ""))
    if not found:
        pytest.skip("TRASLUZ_BROWSER names no browser")
    return found


def opened(browser: str, page: str, folder: Path) -> str:
    """Return the page as it stands after its script has run."""
    (folder / "page.html").write_text(page, encoding="utf-8")
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--dump-dom"]
    profile = f"--user-data-dir={folder / 'profile'}"
    command = [browser, *options, profile, "--virtual-time-budget=2000", (folder / "page.html").as_uri()]
    return subprocess.run(command, capture_output=True, timeout=120, check=True).stdout.decode()


def test_in_a_browser_words_and_rays_are_drawn_and_tokens_stay_text(browser: str, tmp_path: Path) -> None:
    one = example([*HOSTILE, "lantern"], ["farol", *HOSTILE], model=HOSTILE[1])
    page = opened(browser, explorer_page([one, example([*HOSTILE, "lantern"], ["farol", *HOSTILE], head=1)]), tmp_path)
    elements = Elements(page).found
    assert len([a for _, a in elements if a.get("class") == "word"]) == 22
    assert len([tag for tag, _ in elements if tag == "script"]) == 2
    assert not [tag for tag, a in elements if tag == "img" or "onerror" in a or "onload" in a]
    assert len([tag for tag, _ in elements if tag == "path"]) > 11
    assert len([a for tag, a in elements if tag == "rect" and a.get("class") == "cell"]) > 11
    assert page.count("alert(1)") > 4


WALK = """
const all = (path) => [...document.querySelectorAll(path)], log = [];
const lit = () => all(".word.chosen").map((word) => `${word.parentElement.id} ${word.textContent}`).join();
const press = (key) => document.activeElement.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true }));
all("#rows .word")[1].dispatchEvent(new PointerEvent("pointerover", { pointerType: "mouse", bubbles: true }));
log.push(`hover ${lit()}`);
all("#rows .word")[0].focus();
press("ArrowRight");
press("ArrowUp");
log.push(`keys ${lit()}`, all("#reading b")[0].textContent);
document.activeElement.click();
log.push(`pinned ${all("[aria-pressed=true].word").length}`);
press("Escape");
log.push(`released ${all("[aria-pressed=true].word").length}`);
all('[data-name="merged"]')[1].click();
log.push(`pieces ${all("#columns .word").length}`);
all("#choose-head")[0].value = "0";
all("#choose-head")[0].dispatchEvent(new Event("change"));
log.push(`head ${all("#heads [aria-pressed=true]")[0].title}`);
all("#language")[0].click();
log.push(`language ${document.documentElement.lang}`);
document.title = log.join("; ");
"""


def test_in_a_browser_pointer_and_keys_light_words(browser: str, tmp_path: Path) -> None:
    groups = {"source_words": [[0, 1], [2]], "target_words": [[0], [1]]}
    weights = np.array([[0.1, 0.1, 0.8], [0.5, 0.4, 0.1]], dtype=np.float32)
    maps = [
        AttentionMap(weights, ["lan", "tern", "glows"], ["brilla", "farol"], layer=0, head=head, **groups)  # type: ignore[arg-type]
        for head in range(2)
    ]
    page = explorer_page(maps, language="en")
    # A test's script is none of the page's own, which is all that its policy lets run.
    page = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", page)
    page = opened(browser, page.replace("</body>", f"<script>{WALK}</script></body>"), tmp_path)
    found = re.search("<title>(.*)</title>", page)
    assert found is not None
    assert found.group(1).split("; ") == [
        "hover rows farol",
        "keys columns lantern",
        "lantern",
        "pinned 1",
        "released 0",
        "pieces 3",
        "head layer 0, head mean",
        "language es",
    ]


def read_aloud(browser: str, page: str, word: int, folder: Path) -> str:
    """Return what stands beside the lines, before a row's word is pointed at and afterwards."""
    point = f"""
const read = () => document.querySelector("#reading").innerHTML;
const log = [read()];
document.querySelectorAll("#rows .word")[{word}].focus();
document.querySelector("#about").textContent = [...log, read()].join("\\n");
"""
    page = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", page)
    found = re.search(
        r'<p id="about">(.*?)</p>',
        opened(browser, page.replace("</body>", f"<script>{point}</script></body>"), folder),
        re.DOTALL,
    )
    assert found is not None
    return html.unescape(found.group(1))


def test_in_a_browser_a_word_that_looks_at_all_alike_looks_at_something(browser: str, tmp_path: Path) -> None:
    words = [f"word{i}" for i in range(400)]
    one = AttentionMap(np.full((1, 400), 1 / 400, np.float32), words, ["all"])
    before, after = read_aloud(browser, explorer_page([one], language="en"), 0, tmp_path).split("\n")
    assert "0.3%" in before and "0.3%" in after
    assert "nothing" not in after and "word0" in after


def test_in_a_browser_an_arrow_goes_from_the_word_that_looks(browser: str, tmp_path: Path) -> None:
    one = example(["the", "light"], ["هذا", "النور"])
    before, _ = read_aloud(browser, explorer_page([one]), 0, tmp_path).split("\n")
    assert before.count('<span dir="ltr"><bdi>') == 3
    assert re.search(r"<bdi>(هذا|النور)</bdi> → <bdi>(the|light)</bdi>", before)
