"""`trasluz translate`: texts from arguments, standard input or a file, their translations in order."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from trasluz.cli.options import CommonOptions, From, Model, To, load_translator, with_common_options
from trasluz.cli.streams import answer, answer_json, answered
from trasluz.cli.translate_file import find_shard, refuse_mixed, translate_file

if TYPE_CHECKING:
    from trasluz.tasks.translation import Translation
    from trasluz.tasks.translator import Translator
    from trasluz.text.glossary import Glossary


@with_common_options
def translate(
    common: CommonOptions,
    model: Model,
    texts: Annotated[
        list[str] | None, typer.Argument(metavar="TEXT", help="What to translate; standard input if not given.")
    ] = None,
    from_: From = None,
    to: To = None,
    beam: Annotated[int | None, typer.Option(metavar="N", help="Hypotheses followed at once; 1 is greedy.")] = None,
    length_penalty: Annotated[float | None, typer.Option(metavar="A", help="A of the formula; 0: none.")] = None,
    coverage_penalty: Annotated[float | None, typer.Option(metavar="C", help="C of the formula; 0: none.")] = None,
    nbest: Annotated[int | None, typer.Option(metavar="N", help="Translations shown for each text.")] = None,
    min_length_ratio: Annotated[
        float | None, typer.Option(metavar="R", help="Fewest target tokens, relative to the source's.")
    ] = None,
    max_length_ratio: Annotated[
        float | None, typer.Option(metavar="R", help="Most target tokens, relative to the source's (and 10 more).")
    ] = None,
    no_repeat_ngram: Annotated[
        int | None, typer.Option(metavar="N", help="No N tokens come twice in the same order; 0: they may.")
    ] = None,
    attention: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write what each word looked at: .html .png .svg .pdf .json .npz."),
    ] = None,
    glossary: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Terms and what must stand for them: two columns, .tsv .csv .jsonl."),
    ] = None,
    markup: Annotated[
        bool, typer.Option("--markup", help="Carry the tags of HTML or XML inside a text over to its translation.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a text.")] = False,
    input_: Annotated[
        Path | None, typer.Option("--input", metavar="FILE", help="Translate a file, line for line; also .gz and .xz.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Where to; what an earlier run left there is gone on with.")
    ] = None,
    shard: Annotated[
        str | None,
        typer.Option(metavar="I/N|auto", help="Part I of N of the file, to FILE.I-of-N; auto: by torchrun or srun."),
    ] = None,
    on_error: Annotated[
        str, typer.Option(metavar="stop|skip", help="What a line of the file does that cannot be used.")
    ] = "stop",
) -> None:
    """Translate texts, one a line.

    Of the finished translations Y of a text X, the one with the best score is shown (Wu et al. 2016, equation 14; |Y|
    counts the end; w(t, i) is how much target token t looks at source token i):

    \b
        score = log P(Y | X) / lp(Y) + C * sum over i of log(min(sum over t of w(t, i), 1))
        lp(Y) = ((5 + |Y|) / 6) ^ A          (Hugging Face models: |Y| ^ A)

    What is not given is the model's own choice, in its generation_config.json. With --nbest over 1 a line is the number
    of the text, the score and the translation, with tabs between. A glossary's terms are found as whole words, in any
    case; the search then takes no translation without the words that must stand for them.

    A file is translated window by window, and each is kept: a run that was stopped or killed goes on when its command
    is given again. The outputs of N shards, one after the other, are the translation of the whole file.
    """
    refuse_mixed(
        texts, input_, output, shard=shard, on_error=on_error, attention=attention, nbest=nbest, as_json=as_json
    )
    # Before a model is loaded: of the processes of one machine, each takes a GPU of its own.
    place = find_shard(shard)
    translator = load_translator(common, model)
    search: dict[str, Any] = {
        "beam": beam,
        "length_penalty": length_penalty,
        "coverage_penalty": coverage_penalty,
        "nbest": nbest,
        "min_length_ratio": min_length_ratio,
        "max_length_ratio": max_length_ratio,
        "no_repeat_ngram": no_repeat_ngram,
        "batch_tokens": common.batch_tokens,
    }
    options: dict[str, Any] = {"markup": markup}
    if glossary is not None:
        options["glossary"] = read_glossary(translator, glossary, to, from_)
    if input_ is not None and output is not None:
        options |= {"to": to, "from_": from_, "options": search, "form": "json" if as_json else "text"}
        translate_file(translator, model, input_, output, place, quiet=common.quiet, on_error=on_error, **options)
        return
    options |= search
    if attention is not None:
        check_attention(translator, attention)
    maps = []
    several = nbest is not None and nbest > 1
    for number, result in enumerate(translations(translator, texts or [], to, from_, options), start=1):
        if as_json:
            answer_json(result.to_dict())
        elif several and result.source.strip():
            for one in (result, *result.alternatives):
                answer(f"{number}\t{one.score:.4f}\t{one.text}")
        else:
            answer(result.text)
        if attention is not None:
            maps.append(result.attention)
    if attention is not None and maps:
        from trasluz.inspection.attention_file import save_maps

        save_maps(maps, attention)


def translations(
    translator: "Translator", texts: Sequence[str], to: str | None, from_: str | None, options: dict[str, Any]
) -> Iterator["Translation"]:
    """Give the translation of every text, in order, as they arrive; an error names the line of the text it is about."""
    # Wrong languages and options are refused before anything is read.
    translator([], to, from_, **options)
    return answered(lambda group: translator(group, to, from_, **options), texts, prompt=f"{from_ or 'text'}> ")


def read_glossary(translator: "Translator", path: Path, to: str | None, from_: str | None) -> "Glossary":
    """Read a glossary for the direction asked for."""
    from trasluz.text.glossary import Glossary

    direction = translator.directions.choose(to, from_)
    return Glossary.read(path, (direction.from_language or "source", direction.to_language or "target"))


def check_attention(translator: "Translator", path: Path) -> None:
    """Refuse, before any work, a file of an unknown kind and a model that has no attention to show."""
    from trasluz.errors import RequestError
    from trasluz.inspection.attention_file import check_ending

    check_ending(path)
    if translator.attention_place is None:
        raise RequestError(f"{translator.name} has no attention to look at: all its decoder knows is one vector.")
