"""`trasluz export`: a model as the files of another engine."""

from pathlib import Path
from typing import Annotated

import typer

from trasluz.cli.options import CommonOptions, Model, TaskName, with_common_options

FORMATS = ("ctranslate2", "onnx")


@with_common_options
def export(
    common: CommonOptions,
    model: Model,
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The folder to write; it must not hold anything yet.")],
    to: Annotated[str, typer.Option(metavar="ctranslate2|onnx", help="The engine that is to run it.")],
    dtype: Annotated[
        str,
        typer.Option(
            metavar="auto|fp32|fp16|bf16|int8",
            help="Type of the weights stored; auto is fp32. The others are for ctranslate2.",
        ),
    ] = "auto",
    task: TaskName = None,
) -> None:
    """Write a model for another engine.

    \b
        ctranslate2   Transformers and GPTs like GPT-2, for fast decoding on a CPU or GPU without PyTorch
        onnx          any model but block-sparse BigBird, for ONNX Runtime and its like; --task: an encoder's head

    Beside the engine's files the folder holds the tokenizers and a README.md with a program that runs the model. Each
    engine needs packages of its own: pip install 'trasluz[ctranslate2]' or 'trasluz[onnx]'.
    """
    from trasluz.cli.streams import remark
    from trasluz.errors import RequestError, nearest

    if to not in FORMATS:
        close = nearest(to, FORMATS)
        hint = f"did you mean {close}?" if close else f"there are {' and '.join(FORMATS)}."
        raise RequestError(f"there is no format {to!r}; {hint}")
    if to == "onnx" and dtype not in ("auto", "fp32"):
        raise RequestError(f"--dtype is {dtype!r}, but onnx files hold fp32; leave it out, or use --to ctranslate2.")
    common.prepare()
    from trasluz.tasks.loading import read_model

    loaded = read_model(model, task)
    if to == "ctranslate2":
        from trasluz.checkpoints.ctranslate2 import write_ctranslate2

        write_ctranslate2(folder, loaded, "fp32" if dtype == "auto" else dtype)
    else:
        from trasluz.checkpoints.onnx import write_onnx

        write_onnx(folder, loaded)
    remark(f"{folder / 'README.md'} says how to run it", quiet=common.quiet)
