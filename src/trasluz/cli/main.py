"""The command line: verbs in, exit codes out; every error becomes one or two plain lines on standard error.

Exit codes: 0 done; 1 the work failed; 2 the request was wrong; 130 Ctrl-C; 141 nobody reads the output any more.
"""

import contextlib
import io
import os
import re
import sys
import traceback
import warnings
from collections.abc import Sequence
from typing import Annotated, Any

import typer

import trasluz
from trasluz.cli.data_words import repeat_data_options
from trasluz.cli.demo import demo
from trasluz.cli.encoders import answer, classify, embed, fill_mask, tag
from trasluz.cli.evaluate import evaluate
from trasluz.cli.export import export
from trasluz.cli.generate import generate
from trasluz.cli.init import init
from trasluz.cli.inspect import inspect
from trasluz.cli.models import models
from trasluz.cli.plan import plan
from trasluz.cli.train import distill, train
from trasluz.cli.translate import translate
from trasluz.errors import TrasluzError, TrasluzWarning

# The verbs' files import torch and the like inside their functions, so that help costs nothing.
app = typer.Typer(
    name="trasluz",
    help="Attention models you can see through: train them, look inside them, ship them.",
    epilog="MODEL is a model or run folder (Hugging Face's, too), a bundled name (pocket-en-es), or an id of the "
    "Hugging Face hub.",
    add_completion=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
for verb in (
    *(demo, init, train, distill, evaluate),
    *(translate, fill_mask, classify, tag, answer, embed, generate),
    *(inspect, export, models, plan),
):
    app.command()(verb)


def run(arguments: Sequence[str]) -> int:
    """Run one command line and return its exit code."""
    with warnings.catch_warnings():
        warnings.showwarning = _tell
        return _run(arguments)


def _run(arguments: Sequence[str]) -> int:
    debug = "--debug" in arguments
    _open_closed_streams()
    try:
        code = app(args=repeat_data_options(arguments) or ["--help"], prog_name="trasluz", standalone_mode=False)
        sys.stdout.flush()
        return code if isinstance(code, int) else 0
    except (KeyboardInterrupt, typer.Abort):
        return 130
    except (BrokenPipeError, SystemExit):  # typer turns the former into the latter, and nothing else
        _forget_output()
        return 141
    except Exception as error:
        # What was answered before the error stays; unless it is just this that could not be written.
        try:
            sys.stdout.flush()
        except (OSError, ValueError):
            _forget_output()
        if debug:
            traceback.print_exc()
        else:
            print("\n".join(_explain(error, arguments)), file=sys.stderr)
        return error.exit_code if isinstance(error, TrasluzError | typer.TyperException) else 1


_show_warning = warnings.showwarning


def _tell(message: Warning | str, category: type[Warning], *where: Any, **how: Any) -> None:
    """Write a warning of ours as one plain line; others as Python does."""
    if issubclass(category, TrasluzWarning):
        print(f"trasluz: {message}", file=sys.stderr)
    else:
        _show_warning(message, category, *where, **how)


def _explain(error: Exception, arguments: Sequence[str]) -> list[str]:
    """Return the one or two lines for an error."""
    if isinstance(error, TrasluzError):
        return [f"trasluz: {_as_typed(str(error), arguments[0] if arguments else '')}"]
    if isinstance(error, typer.TyperException):
        command = getattr(getattr(error, "ctx", None), "command_path", "trasluz")
        return [f"trasluz: {_wrong_value(error) or error.format_message()}", f"See: {command} --help"]
    name = type(error).__name__
    if isinstance(error, MemoryError) or name == "OutOfMemoryError":
        return ["trasluz: the memory does not suffice. A smaller --batch-tokens needs less of it."]
    if isinstance(error, OSError) and error.strerror:
        where = error.filename or "standard output, or another file in use"
        return [f"trasluz: {where}: {error.strerror}."]
    first_line = str(error).strip().splitlines()[0] if str(error).strip() else ""
    return [
        f"trasluz: unexpected {name}: {first_line}",
        "This is a fault in trasluz, not in your request; run it again with --debug to see where.",
    ]


def _wrong_value(error: typer.TyperException) -> str | None:
    """Return what is wrong with the value of an option that is no number; None of other errors."""
    mistakes: list[dict[str, Any]] = getattr(error.__cause__, "errors", list)()
    option = getattr(error, "param", None)
    if option is None or not mistakes:
        return None
    expected = {"int": "a whole number", "float": "a number"}.get(mistakes[0]["type"].partition("_")[0])
    return f"{option.opts[0]} is {mistakes[0]['input']!r}; {expected} was expected." if expected else None


def _as_typed(message: str, verb: str) -> str:
    """Return a message with options as they are typed, where it has names of arguments, such as `length_penalty`."""
    quoted = re.compile("`([a-z_]+)`")
    if not quoted.search(message):
        return message
    command: Any = typer.main.get_command(app)
    parameters = command.commands[verb].params if verb in command.commands else ()
    options = {one.name: one.opts[0] for one in parameters if one.param_type_name == "option"}
    return quoted.sub(lambda found: options.get(found[1], found[0]), message)


def _open_closed_streams() -> None:
    # A shell may have closed them (`<&-`): then there is nothing to read, and nobody to tell.
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))
    # UTF-8 out as in, whatever the system's habit; a terminal that cannot show a character shows a question mark.
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            if stream.isatty():
                stream.reconfigure(errors="replace")
            else:
                stream.reconfigure(encoding="utf-8")


def _forget_output() -> None:
    # The reader has gone (`trasluz ... | head`), or the disk is full: what is still in the buffer must not raise again
    # at exit.
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _show_version(wanted: bool) -> bool:
    if wanted:
        print(f"trasluz {trasluz.__version__}")
        raise typer.Exit
    return wanted


@app.callback()
def options_of_all(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and leave.")
    ] = False,
) -> None:
    """Take the options that stand before the verb."""
