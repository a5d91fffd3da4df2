"""What is written is true: documents, help and packaging agree with the code, and the tree passes its own checkers."""

import ast
import re
import runpy
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer.main

from trasluz.cli.main import app
from trasluz.tasks.loading import bundled_models

ROOT = Path(__file__).parents[1]
SHAPED_TYPES = re.compile(r"(Float|Int|UInt|Bool|Shaped|Num|Integer|Inexact|Real)\d*")


def tracked_files() -> list[Path]:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("not a git checkout")
    return [ROOT / name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()]


def axis_names_in_code() -> set[str]:
    names = set()
    for path in (ROOT / "src/trasluz").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not (isinstance(node, ast.Subscript) and isinstance(node.value, ast.Name)):
                continue
            if SHAPED_TYPES.fullmatch(node.value.id) and isinstance(node.slice, ast.Tuple):
                axes = node.slice.elts[-1]
                if isinstance(axes, ast.Constant) and isinstance(axes.value, str):
                    names.update(re.findall(r"[a-z]\w*", axes.value))
    return names


def test_the_glossary_of_axes_names_every_axis_and_no_other() -> None:
    listed = set(re.findall(r"^\| `(\w+)` \|", (ROOT / "docs/axes.md").read_text(encoding="utf-8"), flags=re.M))
    used = axis_names_in_code()
    assert used - listed == set(), "axes in signatures that docs/axes.md does not explain"
    assert listed - used == set(), "axes in docs/axes.md that no signature uses"


CHECKERS = {
    "format": [sys.executable, "-m", "ruff", "format", "--check", "."],
    "lint": [sys.executable, "-m", "ruff", "check", "."],
    "types": [sys.executable, "-m", "mypy"],
    "floors": [str(Path(sys.executable).with_name("lint-imports"))],
}


@pytest.mark.parametrize("checker", CHECKERS)
def test_the_tree_passes_its_own_checkers(checker: str) -> None:
    done = subprocess.run(CHECKERS[checker], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_no_file_knows_the_machine_it_was_written_on() -> None:
    # Written so that the patterns do not find themselves.
    machine = re.compile(r"(?<![\w.~-])/(wor[k]|hom[e]|roo[t]|User[s])/\w|\.\./share[d]")
    found = []
    for path in tracked_files():
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        if path != ROOT / ".ci/run":
            found += [f"{path.relative_to(ROOT)}: {match.group()}" for match in machine.finditer(text)]
    assert found == []


def test_no_test_file_of_a_room_is_without_its_room() -> None:
    rooms = {path.name for path in (ROOT / "src/trasluz").iterdir() if path.is_dir()}
    mirrored = {path.name for path in (ROOT / "tests").iterdir() if path.is_dir() and path.name != "__pycache__"}
    # The programs that measure speed stand beside the package, and so do the tests of them.
    assert mirrored <= rooms | {"benchmarks"}


# ---- documents and command line -------------------------------------------------------------------------------


def documents() -> list[Path]:
    return [ROOT / "README.md", ROOT / "README.es.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]


def documented_commands() -> Iterator[tuple[str, str]]:
    """Give (document, command) for every trasluz command in a shell block."""
    for path in documents():
        for block in re.findall(r"```sh\n(.*?)```", path.read_text(encoding="utf-8"), flags=re.S):
            for line in block.replace("\\\n", " ").splitlines():
                if match := re.search(r"(?:^|\| *)(trasluz .*)", line):
                    yield str(path.relative_to(ROOT)), match.group(1)


def test_every_documented_command_is_a_real_verb_with_real_options() -> None:
    verbs = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    seen = list(documented_commands())
    assert seen
    for document, command in seen:
        words = shlex.split(command.split(" > ")[0].split(" | ")[0].split(" < ")[0], comments=True)[1:]
        assert words[0] in verbs or words[0].startswith("--"), f"{document}: {command}"
        if words[0] in verbs:
            known = {option for parameter in verbs[words[0]].params for option in parameter.opts} | {"--help"}
            asked = {word.split("=")[0] for word in words if word.startswith("--") and word != "--"}
            assert asked <= known, f"{document}: {command}"


@pytest.fixture
def bundled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to work in, where the bundled model is installed."""
    if "pocket-en-es" not in bundled_models():
        pytest.skip("the bundled model is not in this tree")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("page", ["README.md", "README.es.md"])
def test_the_readme_commands_on_the_bundled_model_run(page: str, bundled: Path) -> None:
    (bundled / "letter.txt").write_text("The light.\n\nThe paper.\n", encoding="utf-8")
    (bundled / "carta.txt").write_text("La luz.\n\nEl papel.\n", encoding="utf-8")
    for name in ("story.txt", "historia.txt"):
        (bundled / name).write_text("When evening came, Irene lit the lamp.", encoding="utf-8")
    block = re.findall(r"```sh\n(.*?)```", (ROOT / page).read_text(encoding="utf-8"), flags=re.S)
    commands = [line for line in "".join(block).splitlines() if "pocket-" in line]
    assert len(commands) >= 9
    script = "set -e -o pipefail\n" + "\n".join(commands).replace(
        "trasluz ", f"{shlex.quote(sys.executable)} -m trasluz "
    )
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    written = [(bundled / name).stat().st_size for name in re.findall(r" (?:--out|>) (\S+)", script)]
    assert len(written) == 3 and min(written) > 0


@pytest.mark.parametrize("page", ["README.md", "README.es.md"])
def test_the_readme_python_runs(page: str, bundled: Path) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(encoding="utf-8"), flags=re.S)
    exec(compile(code, page, "exec"), {})
    assert len(list(bundled.glob("al*.png"))) == 1


@pytest.mark.parametrize("page", ["recipe.md", "command-line.md"])
def test_pages_made_from_the_code_are_up_to_date(page: str) -> None:
    pages = runpy.run_path(str(ROOT / "docs/generate.py"))["PAGES"]
    assert (ROOT / "docs" / page).read_text(encoding="utf-8") == pages[page](), "run `make docs`"


def test_every_make_target_in_a_document_exists() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.M))
    for path in documents():
        blocks = re.findall(r"```sh\n(.*?)```", path.read_text(encoding="utf-8"), flags=re.S)
        assert set(re.findall(r"^make (\w+)", "\n".join(blocks), flags=re.M)) <= targets, path


def test_links_between_documents_lead_somewhere() -> None:
    for path in documents():
        for target in re.findall(r"\]\((?!https?://|#)([^)#]+)", path.read_text(encoding="utf-8")):
            assert (path.parent / target).exists(), f"{path.relative_to(ROOT)} links to {target}"


def test_every_verb_says_in_its_help_what_it_does() -> None:
    for name, command in typer.main.get_command(app).commands.items():  # type: ignore[attr-defined]
        assert command.help, name
        for parameter in command.params:
            assert getattr(parameter, "help", None), f"{name}: {parameter.name} has no help"


def test_public_names_are_listed_and_can_be_imported() -> None:
    import trasluz

    for name in trasluz.__all__:
        assert getattr(trasluz, name) is not None
    with pytest.raises(AttributeError, match="module 'trasluz' has no name 'lode'; it has __version__, AttentionMap"):
        trasluz.lode  # noqa: B018


def test_the_version_stands_in_the_changelog() -> None:
    import trasluz

    assert f"## [{trasluz.__version__}]" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
