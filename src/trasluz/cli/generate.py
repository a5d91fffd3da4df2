"""`trasluz generate`: prompts from arguments or standard input, and what follows each, as it is being written."""

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from trasluz.cli.options import AsJson, CommonOptions, Model, load_task, with_common_options
from trasluz.cli.streams import answer, answer_json, answered, in_one_line, input_texts

if TYPE_CHECKING:
    from trasluz.tasks.generation import Generation
    from trasluz.tasks.generator import Generator


@with_common_options
def generate(
    common: CommonOptions,
    model: Model,
    prompts: Annotated[
        list[str] | None, typer.Argument(metavar="PROMPT", help="What to go on from; standard input if not given.")
    ] = None,
    max_tokens: Annotated[
        int | None, typer.Option(metavar="N", help="Most tokens that follow a prompt; 256 if not given.")
    ] = None,
    temperature: Annotated[
        float | None, typer.Option(metavar="T", help="T of the formula; 0 takes the likeliest token each time.")
    ] = None,
    top_k: Annotated[int | None, typer.Option(metavar="K", help="Draw among the K likeliest tokens; 0: all.")] = None,
    top_p: Annotated[
        float | None, typer.Option(metavar="P", help="Draw among the likeliest tokens that sum to P; 1: all.")
    ] = None,
    min_p: Annotated[
        float | None, typer.Option(metavar="M", help="Draw among tokens M times as likely as the likeliest; 0: all.")
    ] = None,
    repetition_penalty: Annotated[
        float | None, typer.Option(metavar="R", help="R of the formula, for tokens of prompt and text; 1: none.")
    ] = None,
    frequency_penalty: Annotated[
        float | None, typer.Option(metavar="F", help="F of the formula, each time a token stood in the text; 0: none.")
    ] = None,
    stop: Annotated[
        list[str] | None,
        typer.Option(metavar="STRING", help="The text ends before this string; may be given several times."),
    ] = None,
    beam: Annotated[
        int | None, typer.Option(metavar="N", help="Search with N hypotheses and draw nothing; 1 is greedy.")
    ] = None,
    samples: Annotated[int | None, typer.Option(metavar="N", help="Texts for each prompt.")] = None,
    slide: Annotated[
        bool, typer.Option("--slide", help="Let texts be longer than the model's window, which sees their last part.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Continue texts.

    Each next token is drawn from the model's logits x, softmax(x' / T), where

    \b
        x' = x / R (x * R below 0) for tokens that stand in prompt or text, less F for each time in the text

    over the tokens that --top-k, --top-p and --min-p leave, in this order. What is not given is the model's own choice,
    in its generation_config.json, else T = 1 and all tokens. The same --seed draws the same text.

    A text is shown as it is written, without its prompt, and is one line: line breaks in it are blanks, but to a
    terminal and with --json. With --samples over 1, which are the best of a --beam, a line is the number of the prompt,
    the log-probability and the text, with tabs between. An empty line of standard input is answered by one, or with
    --json by an object without text.
    """
    task: Generator = load_task(common, model, "generate")
    options: dict[str, Any] = {
        "max_tokens": max_tokens,
        "temperature": temperature,
        "top_k": top_k,
        "top_p": top_p,
        "min_p": min_p,
        "repetition_penalty": repetition_penalty,
        "frequency_penalty": frequency_penalty,
        "stop": stop or None,
        "beam": beam,
        "samples": samples,
        "seed": common.seed,
        "slide": slide or None,
        "batch_tokens": common.batch_tokens,
    }
    # Wrong options are refused before anything is read.
    settings = task.settings(**options)
    several = settings.samples > 1
    if not several and settings.beam in (None, 1) and not as_json:
        _write_along(task, prompts or [], options)
        return

    def work(group: list[str]) -> "list[Generation | None]":
        given = [text for text in group if prompts or text]
        found = iter(task(given, **options))
        return [next(found) if prompts or text else None for text in group]

    for number, result in enumerate(answered(work, prompts or [], prompt="prompt> "), start=1):
        if as_json:
            answer_json((result or _nothing()).to_dict())
        elif result is None:
            answer("")
        elif several:
            for one in (result, *result.alternatives):
                answer(f"{number}\t{one.log_probability:.4f}\t{one.text}")
        else:
            answer(result.text)


def _nothing() -> "Generation":
    """Return what an empty line is answered by."""
    from trasluz.tasks.generation import Generation

    def look(_: Generation) -> Any:
        raise AssertionError("nothing looks at nothing")

    return Generation("", "", 0.0, 0.0, "end", (), (), look)


def _write_along(task: "Generator", prompts: list[str], options: dict[str, Any]) -> None:
    """Write each text piece by piece; an error names the line of the prompt it is about."""
    from trasluz.errors import RequestError

    place, number = "text" if prompts else "standard input", 0
    whole_lines = not sys.stdout.isatty()
    for group in input_texts(prompts, prompt="prompt> "):
        for prompt in group:
            number += 1
            try:
                for piece in task.stream(prompt, **options) if prompts or prompt else ():
                    sys.stdout.write(in_one_line(piece) if whole_lines else piece)
                    sys.stdout.flush()
            except RequestError as error:
                raise RequestError(f"{place}:{number}: {error}") from error
            answer("")
