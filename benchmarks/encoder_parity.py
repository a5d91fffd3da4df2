"""How far an encoder's folder is, here, from what `transformers` and `sentence-transformers` make of it.

    python benchmarks/encoder_parity.py --model FOLDER --texts FILE ...

Files may be .gz or .xz; a tab ends a text. Token ids must be the same on all lines that are compared; states are held
against `transformers` in fp32, text by text without padding; vectors against `sentence-transformers` where it is
installed, and against the formula written out where it is not. Prints one line of JSON.

One difference is meant, and is left out: a text that spells "[MASK]" holds no special token here.
"""

import argparse
import importlib.util
import json
import random
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers

import trasluz
from trasluz.text.lines import read_lines

ODD = [
    "¿Dónde está el niño? ¡Allí, junto al pingüino!",
    "The café is naïve: cafe\u0301, nai\u0308ve.",
    "Light 🌞 through paper 📄, and a family 👨‍👩‍👧‍👦 under 🏳️‍🌈.",
    "光は紙を通る。 紙は薄い。",
    "빛이 종이를 지나간다.",
    "ضوء يمر عبر الورق",
    "Zero\u200bwidth, soft\u00adhyphen, no\u00a0break, \ufeffmark and \ufffd.",
    "A bell \x07, a null \x00, a tab \t, an escape \x1b[1m and a line\nbreak.",
    "x" * 150 + " " + "ab" * 80,
    "3.14159 % € £ ½ ² № ™ … — «» “” ‘’ //~~^^",
    "İSTANBUL STRASSE ẞ ﬁ Ω ς Σ",
    "𝔘𝔫𝔦𝔠𝔬𝔡𝔢 and \U0001f9ff and \U00020000",
    "word " * 400,
    " ",
    "",
]


def lines_of(paths: Sequence[str]) -> Iterator[str]:
    """Yield the texts of files."""
    for line in chain.from_iterable(map(read_lines, paths)):
        yield from str(line).split("\t")[:2] if isinstance(line, str) else ()


def their_vectors(folder: str, texts: Sequence[str], states: Sequence[np.ndarray]) -> tuple[str, np.ndarray]:
    """Return what made the vectors, and the vectors."""
    if importlib.util.find_spec("sentence_transformers"):
        from sentence_transformers import SentenceTransformer

        return "sentence-transformers", SentenceTransformer(folder, device="cpu").encode(list(texts), batch_size=32)
    means = np.stack([state.astype(np.float64).mean(0) for state in states])
    return "mean of the states, of length 1", means / np.linalg.norm(means, axis=1, keepdims=True)


def measure(folder: str, lines: Sequence[str], num_sentences: int, seed: int) -> dict[str, Any]:
    """Return the greatest differences."""
    embed = trasluz.load(folder, task="embed", device="cpu", dtype="fp32")
    limit = min(embed.pooling.max_tokens or embed.longest_text, embed.longest_text)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.AutoModel.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()

    other_ids, first_other = 0, None
    for begin in range(0, len(lines), 512):
        part = list(lines[begin : begin + 512])
        theirs = tokenizer(part, truncation=True, max_length=limit, padding=False)["input_ids"]
        for text, one, ids in zip(part, embed._inputs(part, longest=limit), theirs, strict=True):
            if one.ids.tolist() != ids:
                other_ids += 1
                first_other = first_other or text

    texts = random.Random(seed).sample(list(lines[: -len(ODD)]), num_sentences - len(ODD)) + ODD
    states, state_difference, padded_difference = [], 0.0, 0.0
    with torch.inference_mode():
        for text in texts:
            inputs = tokenizer(text, truncation=True, max_length=limit, padding=False, return_tensors="pt")
            theirs = model(**inputs).last_hidden_state[0]
            ours = embed.model(embed._batch(embed._inputs([text], longest=limit)))[0]
            state_difference = max(state_difference, float((ours - theirs).abs().max()))
            states.append(theirs.numpy())
        for group, batch, hidden in embed._states(embed._inputs(texts, longest=limit), None):
            for row, number in enumerate(group):
                difference = np.abs(hidden[row, : int(batch.lengths[row])].numpy() - states[number])
                padded_difference = max(padded_difference, float(difference.max()))
    reference, vectors = their_vectors(folder, texts, states)
    own = embed.vectors(texts)
    return {
        "lines_compared": len(lines),
        "lines_with_other_ids": other_ids,
        "first_of_them": first_other,
        "sentences": len(texts),
        "greatest_difference_of_states": state_difference,
        "in_batches": padded_difference,
        "vectors_of": reference,
        "greatest_difference_of_vectors": float(np.abs(own - vectors).max()),
        "smallest_cosine": float((own * vectors).sum(1).min()),
        "transformers": transformers.__version__,
        "torch": torch.__version__,
    }


def main() -> None:
    """Read the command line and measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="a folder of Hugging Face's layout")
    parser.add_argument("--texts", required=True, nargs="+", metavar="FILE")
    parser.add_argument("--lines", type=int, default=20_000, help="lines whose token ids are compared")
    parser.add_argument("--sentences", type=int, default=1_000, help="sentences whose states are")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    transformers.utils.logging.set_verbosity_error()
    found = list(lines_of(given.texts))
    count = min(len(found), given.lines - len(ODD))
    lines = random.Random(given.seed).sample(found, count) + ODD
    result = measure(str(Path(given.model)), lines, min(given.sentences, len(lines)), given.seed)
    print(json.dumps(result, ensure_ascii=False))


if __name__ == "__main__":
    main()
