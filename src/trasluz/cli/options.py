"""Options that the verbs share, as one object."""

import functools
import inspect
import os
import warnings
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Annotated, Any, Concatenate, ParamSpec, get_type_hints

import typer

if TYPE_CHECKING:
    from trasluz.tasks.translator import Translator

Model = Annotated[str, typer.Argument(metavar="MODEL", help="A model or run folder, a bundled name, or a hub id.")]
Texts = Annotated[
    list[str] | None, typer.Argument(metavar="TEXT", help="What to work on; standard input if not given.")
]
TaskName = Annotated[
    str | None, typer.Option("--task", metavar="TASK", help="Which task, of a model that does several.")
]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON object a text.")]
Columns = Annotated[
    str | None,
    typer.Option(
        "--columns", metavar="NAME=COLUMN,...", help="Which columns of a table hold what, as in text=sentence,label=1."
    ),
]
Format = Annotated[
    str | None,
    typer.Option("--format", metavar="FORMAT", help="What a file is whose ending does not tell: conll, squad."),
]
Pairs = Annotated[bool, typer.Option("--pairs", help="Labelled texts are pairs: columns text and second_text.")]
From = Annotated[str | None, typer.Option("--from", metavar="LANGUAGE", help="The language of the text.")]
To = Annotated[str | None, typer.Option("--to", metavar="LANGUAGE", help="The language to translate to.")]

Parameters = ParamSpec("Parameters")


@dataclass(frozen=True)
class CommonOptions:
    """What every verb that runs a model takes."""

    device: Annotated[
        str | None,
        typer.Option(metavar="auto|cpu|cuda[:N]", help="Where to compute; auto takes a GPU where there is one."),
    ] = None
    dtype: Annotated[
        str | None,
        typer.Option(
            metavar="auto|fp32|bf16|int8",
            help="Precision; auto is fp32 on a CPU, bf16 on a GPU that has it; int8 is for decoding on a CPU.",
        ),
    ] = None
    threads: Annotated[
        int | None, typer.Option(metavar="N", help="CPU threads; PyTorch decides where it is not given.")
    ] = None
    batch_tokens: Annotated[int | None, typer.Option(metavar="N", help="Most tokens in a batch, padding included.")] = (
        None
    )
    seed: Annotated[int | None, typer.Option(metavar="N", help="Seed of everything drawn at random.")] = None
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress and no remarks on standard error.")] = False
    offline: Annotated[bool, typer.Option("--offline", help="Never reach for the network.")] = False
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False

    def prepare(self) -> None:
        """Set what holds for the whole process: threads, remarks, the network; call it before a model is loaded."""
        from trasluz.devices import set_threads, tune_allocator
        from trasluz.errors import RequestError, TrasluzWarning

        for name in ("threads", "batch_tokens"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise RequestError(f"--{name.replace('_', '-')} is {value}; it must be 1 or more.")
        if self.seed is not None and not 0 <= self.seed < 1 << 64:
            raise RequestError(f"--seed is {self.seed}; it must be from 0 to {(1 << 64) - 1}.")
        if self.quiet:
            warnings.simplefilter("ignore", TrasluzWarning)
        if self.offline:
            os.environ["HF_HUB_OFFLINE"] = "1"
        if self.seed is not None:
            import torch

            torch.manual_seed(self.seed)
        tune_allocator()
        if self.threads is not None:
            set_threads(self.threads)


def with_common_options(
    verb: Callable[Concatenate[CommonOptions, Parameters], None],
) -> Callable[..., None]:
    """Give a verb the common options: they arrive as its first argument, one `CommonOptions`.

    What the verb has an option of its own for is left to that one.
    """

    @functools.wraps(verb)
    def command(**values: Any) -> None:
        common = CommonOptions(**{name: values.pop(name) for name in names})
        verb(common, **values)  # type: ignore[call-arg]  # typer calls by name only

    hints = get_type_hints(CommonOptions, include_extras=True)
    own = list(inspect.signature(verb).parameters.values())[1:]
    taken = {parameter.name for parameter in own}
    untaken = [field for field in fields(CommonOptions) if field.name not in taken]
    names = [field.name for field in untaken]
    shared = [
        inspect.Parameter(
            field.name, inspect.Parameter.KEYWORD_ONLY, default=field.default, annotation=hints[field.name]
        )
        for field in untaken
    ]
    own = [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in own]
    # typer builds the command from the signature it sees.
    command.__signature__ = inspect.Signature([*own, *shared])  # type: ignore[attr-defined]
    command.__annotations__ = {parameter.name: parameter.annotation for parameter in [*own, *shared]}
    return command


def load_task(common: CommonOptions, model: str, task: str | None) -> Any:
    """Load a model for a task as the common options say; None: for what it is made for."""
    common.prepare()
    from trasluz.tasks.loading import load

    return load(model, task=task, device=common.device or "auto", dtype=common.dtype or "auto")


def load_translator(common: CommonOptions, model: str) -> "Translator":
    """Load a translation model as the common options say."""
    translator: Translator = load_task(common, model, "translate")
    return translator
