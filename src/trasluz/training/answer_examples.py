"""Questions with their contexts and answers as training examples: files as of SQuAD, tables, or objects.

A context that is too long becomes several examples: windows that overlap, each with the whole question. What is learnt
is the first of several answers, in the windows that hold all of it, and "no answer" in the others.
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from trasluz.text.batching import AnswerBatch, make_answer_batch
from trasluz.text.context_windows import ContextPart, context_parts, fitting_overlap, room_beside, tokens_of
from trasluz.text.encoder_tokenizer import EncodedText, EncoderTokenizer
from trasluz.text.questions import QUESTION_COLUMNS
from trasluz.text.readers import Place, ReadReport, read_records
from trasluz.text.token_cache import TokenCache
from trasluz.training.encoder_examples import EncoderExamples
from trasluz.training.examples import Tokenizers, in_chunks
from trasluz.training.stream import ExampleStream


class AnsweredQuestion(NamedTuple):
    """A question about a context, its right answers, and at which character each begins; none: it has no answer."""

    question: str
    context: str
    answers: tuple[str, ...]
    starts: tuple[int, ...]
    place: Place


class AnswerExamples(EncoderExamples[AnsweredQuestion]):
    """Questions with the answers that stand in their contexts."""

    kind = "question"
    columns = ("question", "part", "span")

    def settings(self) -> dict[str, Any]:
        """Return what the stored tokens depend on."""
        return self.recipe.data.model_dump(include={"max_length", "overlap"}) | {"task": self.recipe.task}

    def read(self, entry: Any, report: ReadReport, sources: Sequence[str] | None = None) -> Iterator[AnsweredQuestion]:
        """Yield the questions of a `data` entry."""
        return read_questions(entry, sources=sources, on_error=self.recipe.data.on_error, report=report)

    def texts(self, example: AnsweredQuestion) -> tuple[str, ...]:
        """Return the context: all its questions are held out together, or excluded.

        Not the question: the same one about another context tells nothing of this one's answer.
        """
        return (example.context,)

    def passages(self, example: AnsweredQuestion) -> tuple[str, ...]:
        """Return the question and the context."""
        return example.question, example.context

    def to_record(self, example: AnsweredQuestion) -> dict[str, Any]:
        """Return a question as an object that could be read again."""
        cells = example.question, example.context, example.answers, example.starts
        return dict(zip(QUESTION_COLUMNS, cells, strict=True))

    def from_record(self, record: dict[str, Any]) -> AnsweredQuestion:
        """Return the question of an object; where it was read is not kept."""
        question, context, answers, starts = (record[name] for name in QUESTION_COLUMNS)
        return AnsweredQuestion(question, context, tuple(answers), tuple(starts), Place("", 0))

    def encoded(
        self, examples: Iterator[AnsweredQuestion], tokenizers: Tokenizers
    ) -> Iterator[tuple[AnsweredQuestion, tuple[Any, ...] | None]]:
        """Yield each question with its ids, those of a part of its context, and the answer there, as often as it takes.

        Tokens of the answer count from 1; none: it is not all in this part.
        """
        tokenizer: EncoderTokenizer = tokenizers[0]
        self.room(tokenizer, pair=True)
        data = self.recipe.data
        for some in in_chunks(examples, self.texts):
            for example, (question, parts, span) in zip(
                some, in_parts(some, tokenizer, data.max_length, data.overlap), strict=True
            ):
                # A question that leaves no room, or an answer of characters that the tokenizer drops.
                if not parts or (example.answers and span is None):
                    yield example, None
                for part in parts if span is not None or not example.answers else ():
                    place = part.place_of(span)
                    yield example, (question.ids, part.text.ids, [] if place is None else [one + 1 for one in place])


def read_questions(
    entry: Any, *, sources: Sequence[str] | None = None, on_error: str, report: ReadReport
) -> Iterator[AnsweredQuestion]:
    """Yield the questions of a `data` entry: SQuAD's JSON, or columns `question, context, answer, answer_start`."""
    for (question, context, answers, starts), place in read_records(
        entry, QUESTION_COLUMNS, sources=sources, on_error=on_error, report=report
    ):
        yield AnsweredQuestion(question, context, answers, starts, place)


def in_parts(
    questions: Sequence[AnsweredQuestion], tokenizer: EncoderTokenizer, longest: int, overlap: int
) -> Iterator[tuple[EncodedText, list[ContextPart], tuple[int, int] | None]]:
    """Yield of each question its tokens, the parts of its context, and the first answer's place among its tokens.

    There are no parts where the question leaves no room in a window of `longest` tokens.
    """
    # Many questions have one context, which is cut into tokens once.
    different = list(dict.fromkeys(one.context for one in questions))
    encoded = zip(different, tokenizer.encode_batch(different), strict=True)
    contexts = {text: pieces.with_marks(text) for text, pieces in encoded}
    asked = tokenizer.encode_batch([one.question for one in questions])
    for example, question in zip(questions, asked, strict=True):
        context, room = contexts[example.context], room_beside(len(question), tokenizer, longest)
        parts = context_parts(context, room, fitting_overlap(room, overlap)) if room > 0 else []
        span = None
        if example.answers:
            start = example.starts[0]
            span = tokens_of(context, start, start + len(example.answers[0]))
        yield question, parts, span


class AnswerStream(ExampleStream[AnswerBatch]):
    """Windows of questions; the cache's columns are question, part, span and place."""

    def __init__(
        self, cache: TokenCache, files: Sequence[str], *, tokenizer: EncoderTokenizer, pad_id: int, **settings: Any
    ) -> None:
        """Take the cache and what batches need; `settings` are those of every stream."""
        whole = cache.lengths("question") + cache.lengths("part") + tokenizer.num_added(pair=True)
        super().__init__(cache, files, [whole], **settings)
        self.tokenizer = tokenizer
        self.pad_id = pad_id

    def batch(self, examples: Sequence[int] | Any, epoch: int | None = None) -> AnswerBatch:
        """Return the padded batch of some windows; no epoch differs from another."""
        rows = [self.cache[int(example)][:3] for example in examples]
        spans = [(int(span[0]) - 1, int(span[1]) - 1) if len(span) else None for _, _, span in rows]
        begin = self.tokenizer.second_offset()
        return make_answer_batch(
            [self.tokenizer.join(question, part) for question, part, _ in rows],
            [(begin + len(question), len(part)) for question, part, _ in rows],
            spans,
            pad_id=self.pad_id,
        )
