"""Long documents become the ids that they would become as a whole."""

from trasluz.text.byte_tokenizer_training import train_byte_tokenizer
from trasluz.text.documents import STRETCH, document_ids, stretches

LINES = "The lamp is lit.\n\n  Nobody  came —\nñandú 🙂\n"


def test_stretches_are_together_the_text_and_cut_nothing_apart() -> None:
    text = "y " * STRETCH + LINES * 4000
    pieces = list(stretches(text))
    assert "".join(pieces) == text and len(pieces) > 2 and max(map(len, pieces)) < 3 * STRETCH
    assert list(stretches("")) == [""]
    tokenizer = train_byte_tokenizer([LINES] * 3, vocab_size=300)
    long, short = document_ids(tokenizer, [text, "a"], tokenizer.end_id)
    assert long.tolist() == [*tokenizer.encode(text), tokenizer.end_id]
    assert short.tolist() == [tokenizer.id_of("a"), tokenizer.end_id]
    assert document_ids(tokenizer, ["a", ""], None)[0].tolist() == [tokenizer.id_of("a")]


def test_an_empty_document_is_its_end() -> None:
    tokenizer = train_byte_tokenizer([LINES], vocab_size=300)
    assert document_ids(tokenizer, [""], 4)[0].tolist() == [4]
