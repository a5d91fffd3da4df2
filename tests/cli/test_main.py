"""The command line before any verb runs: help, exit codes, and errors as plain lines."""

import os
import shlex
import subprocess
import sys
import warnings

import pytest

import trasluz
from trasluz.cli import main
from trasluz.cli.main import run
from trasluz.cli.options import CommonOptions
from trasluz.errors import DataError, RequestError, TrainingError, TrasluzWarning


def test_without_a_verb_the_help_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert run([]) == 0
    assert "Usage: trasluz" in capsys.readouterr().out


def test_an_unknown_verb_is_refused_with_the_nearest_name(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["modles"]) == 2
    answer = capsys.readouterr()
    assert answer.out == ""
    assert answer.err == "trasluz: No such command 'modles'. Did you mean 'models'?\nSee: trasluz --help\n"


def test_an_unknown_option_is_refused_with_the_nearest_name(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["models", "--jsn"]) == 2
    assert capsys.readouterr().err.splitlines()[0].endswith("No such option: --jsn (Possible options: --json)")


@pytest.mark.parametrize(("option", "expected"), [("--beam", "a whole number"), ("--length-penalty", "a number")])
def test_what_is_no_number_is_shown(capsys: pytest.CaptureFixture[str], option: str, expected: str) -> None:
    assert run(["translate", "pocket-en-es", option, "x"]) == 2
    assert capsys.readouterr().err.splitlines()[0] == f"trasluz: {option} is 'x'; {expected} was expected."


def test_output_is_utf_8_whatever_the_habit_of_the_system() -> None:
    code = """
from trasluz.cli import main
main.app = lambda **_: print("año \N{DOG FACE}")
main.run(["classify"])
"""
    environment = {**os.environ, "PYTHONIOENCODING": "latin-1"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, env=environment)
    assert (done.stdout.decode(), done.stderr) == ("año \N{DOG FACE}\n", b"")


def test_quiet_silences_warnings_of_ours_for_this_one_request(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def app(args: list[str], **_: object) -> None:
        CommonOptions(quiet="-q" in args).prepare()
        warnings.warn(TrasluzWarning("a remark"), stacklevel=1)

    monkeypatch.setattr(main, "app", app)
    assert run(["tag", "-q"]) == 0
    assert capsys.readouterr().err == ""
    assert run(["tag"]) == 0
    assert capsys.readouterr().err == "trasluz: a remark\n"


@pytest.mark.parametrize("code", ["import trasluz", "from trasluz.cli.main import run; run(['--help'])"])
def test_help_and_import_load_nothing_heavy(code: str) -> None:
    check = "import sys; print([name for name in ('torch', 'numpy', 'pydantic') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", f"{code}; {check}"], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def fail_with(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    def app(**_: object) -> None:
        raise error

    monkeypatch.setattr(main, "app", app)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (DataError("corpus.es:3: the line is empty; take it out on both sides."), 2),
        (TrainingError("the loss is nan."), 1),
    ],
)
def test_a_known_error_is_one_line_and_its_exit_code(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: Exception, code: int
) -> None:
    fail_with(monkeypatch, error)
    assert run(["train"]) == code
    assert capsys.readouterr() == ("", f"trasluz: {error}\n")


def test_debug_shows_the_traceback(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    fail_with(monkeypatch, DataError("a sentence"))
    assert run(["train", "--debug"]) == 2
    shown = capsys.readouterr().err
    assert shown.startswith("Traceback") and shown.endswith("DataError: a sentence\n")


def test_an_unexpected_error_is_owned_up_to(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fail_with(monkeypatch, ZeroDivisionError("division by zero\nand more"))
    assert run(["train"]) == 1
    assert capsys.readouterr().err.splitlines() == [
        "trasluz: unexpected ZeroDivisionError: division by zero",
        "This is a fault in trasluz, not in your request; run it again with --debug to see where.",
    ]


def test_too_little_memory_is_no_fault(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    fail_with(monkeypatch, MemoryError())
    assert run(["train"]) == 1
    assert (
        capsys.readouterr().err == "trasluz: the memory does not suffice. A smaller --batch-tokens needs less of it.\n"
    )


def test_ctrl_c_is_quiet(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    fail_with(monkeypatch, KeyboardInterrupt())
    assert run(["train"]) == 130
    assert capsys.readouterr() == ("", "")


def test_a_reader_that_left_is_no_error() -> None:
    command = f"{shlex.quote(sys.executable)} -m trasluz models --json | head -n 1; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
    assert done.stderr == ""
    assert done.stdout.splitlines()[-1] in ("0", "141")


@pytest.mark.parametrize(
    ("command", "code", "said"),
    [
        (
            "models --json > /dev/full",
            1,
            "trasluz: standard output, or another file in use: No space left on device.\n",
        ),
        ("models --json >&-", 0, ""),
        ("translate pocket-en-es --to es <&-", 0, ""),
    ],
)
def test_streams_that_are_full_or_closed_are_no_fault(command: str, code: int, said: str) -> None:
    done = subprocess.run(
        ["bash", "-c", f"{shlex.quote(sys.executable)} -m trasluz {command}"], capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (code, said)


def test_what_was_answered_before_an_error_stays() -> None:
    code = """
import sys
from trasluz.cli import main
def app(**_):
    sys.stdout.write("an answer\\n")
    raise FileNotFoundError(2, "No such file or directory", "text.txt")
main.app = app
sys.exit(main.run(["classify"]))
"""
    for where, out in (("", "an answer\n"), (" > /dev/full", "")):
        # Buffered, whatever the environment of the tests says.
        command = f"unset PYTHONUNBUFFERED; {shlex.quote(sys.executable)} -c {shlex.quote(code)}{where}"
        done = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
        expected = (1, out, "trasluz: text.txt: No such file or directory.\n")
        assert (done.returncode, done.stdout, done.stderr) == expected


def test_the_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--version"]) == 0
    assert capsys.readouterr().out == f"trasluz {trasluz.__version__}\n"


def test_impossible_common_options_are_refused() -> None:
    with pytest.raises(RequestError, match=r"--batch-tokens is 0; it must be 1 or more\."):
        CommonOptions(batch_tokens=0).prepare()
    with pytest.raises(RequestError, match=r"--threads is -1; it must be 1 or more\."):
        CommonOptions(threads=-1).prepare()
    for seed in (-1, 1 << 64):
        with pytest.raises(RequestError, match=rf"--seed is {seed}; it must be from 0 to 18446744073709551615\."):
            CommonOptions(seed=seed).prepare()


@pytest.mark.parametrize("verb", ["plan", "models", "init", "export"])
def test_verbs_that_may_download_take_the_common_options(
    verb: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    needed = {"plan": ["nobody/none"], "init": ["classify", "--data", "none.tsv"]}
    needed["export"] = ["nobody/none", "none", "--to", "onnx"]
    code = run([verb, *needed.get(verb, []), "--offline", "--quiet", "--threads", "1", "--device", "cpu"])
    assert code == (0 if verb == "models" else 2)
    message = capsys.readouterr().err
    assert os.environ["HF_HUB_OFFLINE"] == "1" and "No such option" not in message
    assert ("offline, nothing is downloaded" in message) == (verb in ("plan", "export"))


def test_offline_reaches_every_library_that_might_ask(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    CommonOptions(offline=True).prepare()
    assert os.environ["HF_HUB_OFFLINE"] == "1"
