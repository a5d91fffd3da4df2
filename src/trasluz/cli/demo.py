"""`trasluz demo`: the main job on the bundled model, seen."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from trasluz.cli.drawing import draw_here
from trasluz.cli.options import CommonOptions, load_translator, with_common_options
from trasluz.cli.streams import answer, remark

if TYPE_CHECKING:
    from trasluz.tasks.translation import Translation

MODEL = "pocket-en-es"
SENTENCES = (
    ("en", "es", "She opened the old book and began to read."),
    ("es", "en", "Mi hermana pequeña quiere comprar un vestido rojo."),
)


@with_common_options
def demo(
    common: CommonOptions,
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="Where page and picture are written.")] = Path("demo"),
) -> None:
    """Translate with the bundled model and draw the alignment.

    Each word written is a row; the darker a cell, the more the model looked at the word above it. The same stands, with
    every layer and head, in alignment.html, and as a picture in alignment.png.
    """
    from trasluz.cli.inspect import attention_of
    from trasluz.errors import ModelError
    from trasluz.inspection.attention_file import save_maps
    from trasluz.tasks.loading import bundled_models

    if MODEL not in bundled_models():
        raise ModelError(f"the bundled model {MODEL} is not part of this copy of trasluz; install a whole one.")
    translator = load_translator(common, MODEL)
    page, pictures = [], []
    for from_, to, text in SENTENCES:
        result = translator(text, to=to, from_=from_)
        for line in (*told(result), *draw_here(result.attention.words()).splitlines(), ""):
            answer(line)
        page += attention_of(translator, text, result.text, to, from_, (None, None, None))
        pictures.append(result.attention.words())
    save_maps(page, out / "alignment.html")
    remark(f"{out / 'alignment.html'}: point at a word to see what it looks at", quiet=common.quiet)
    save_maps(pictures, out / "alignment.png")
    remark(f"{out / 'alignment.png'}", quiet=common.quiet)


def told(result: "Translation") -> list[str]:
    """Return the lines above a drawing: text and translation, with their languages."""
    return [f"{result.from_language}  {result.source}", f"{result.to_language}  {result.text}", ""]
