"""Real data sets as the recipes read them: cut into parts where they come whole, in one form where they have their own.

    python benchmarks/cut_sets.py sst2 FOLDER      train.tsv, valid.tsv, sentences.tsv, few.tsv, dev.tsv, test.tsv
    python benchmarks/cut_sets.py trec FOLDER      train.tsv, valid.tsv, test.tsv
    python benchmarks/cut_sets.py shakespeare FOLDER      train.txt, valid.txt
    python benchmarks/cut_sets.py quijote FOLDER          train.txt, valid.txt
    python benchmarks/cut_sets.py imdb FOLDER             train.tsv, valid.tsv, test.tsv: long reviews alone
    python benchmarks/cut_sets.py imdb-sentences FOLDER   sentences.tsv: without labels
    python benchmarks/cut_sets.py 20newsgroups FOLDER     train.tsv, half.tsv, test.tsv
    python benchmarks/cut_sets.py hyperpartisan FOLDER    fold-1/ to fold-5/, each with train.tsv, valid.tsv, test.tsv

SST-2's training text is phrases, most of them parts of the same sentences. 700 sentences are drawn by the seed to
choose by; every phrase that stands in one of them is kept out of `train.tsv`. `sentences.tsv` is the other sentences,
and `few.tsv` 500 of each class among them; dev and test are as they come. TREC's questions have classes before them; a
tenth is drawn to choose by. Of Shakespeare's plays and of Don Quijote, the last tenth of the characters is kept to
choose by. Of the film reviews of IMDB only those of more than 380 words are taken, which are over 512 tokens as a rule;
a tenth of those to learn from is kept to choose by, and those that stand in the test, too, are left out. Sentences out
of its training reviews, 3 to 40 words long, are drawn for a student to hear its teacher on. Posts of 20 newsgroups keep
their headers and quotes, which tell much of where they stood; `half.tsv` is half of those to learn from. Articles of
Hyperpartisan are title and text; each fifth is the test of one fold, and a tenth of the rest is there to choose by.
Reads the folder that TRASLUZ_DATA names; its text stays out of the repository.
"""

import argparse
import csv
import json
import lzma
import os
import random
import re
from collections.abc import Iterable
from pathlib import Path

Labelled = tuple[str, str]

SEED = 1
HELD_OUT_SENTENCES = 700
FEW_OF_A_CLASS = 500


LONG_REVIEW = 380
LONGEST_SENTENCE = 40
DRAWN_SENTENCES = 30_000
FOLDS = 5

_SENTENCE_END = re.compile(r"(?<=[.!?])\s+|<br />")


def write(path: Path, rows: Iterable[Labelled]) -> None:
    """Write a table of labels and texts, line ends and other stretches of blanks as one blank each."""
    lines = [f"{label}\t{' '.join(text.split())}\n" for label, text in rows]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("label\ttext\n" + "".join(lines), encoding="utf-8")
    print(f"{path}: {len(lines):,} texts")


def cut_sst2(data: Path, out: Path) -> None:
    """Cut SST-2 by sentence."""
    parts = {}
    for name in ("train", "dev", "test"):
        with lzma.open(data / "sst2" / f"{name}.tsv.xz", "rt", encoding="utf-8") as file:
            rows = [line.rstrip("\n").split("\t") for line in file][1:]
        parts[name] = [(label, text.strip()) for label, text in rows]
    phrases = parts["train"]
    sentences = [
        (label, text.strip())
        for line in (data / "sst2" / "stsa.binary.train").read_text(encoding="utf-8").splitlines()
        for label, text in [line.split(" ", 1)]
    ]
    generator = random.Random(SEED)
    order = generator.sample(sentences, len(sentences))
    held_out, rest = order[:HELD_OUT_SENTENCES], order[HELD_OUT_SENTENCES:]
    within = "\n".join(f" {text} " for _, text in held_out)
    write(out / "train.tsv", [phrase for phrase in phrases if f" {phrase[1]} " not in within])
    write(out / "valid.tsv", held_out)
    write(out / "sentences.tsv", rest)
    few = [row for label in "01" for row in [one for one in rest if one[0] == label][:FEW_OF_A_CLASS]]
    write(out / "few.tsv", generator.sample(few, len(few)))
    for name in ("dev", "test"):
        write(out / f"{name}.tsv", parts[name])


def cut_trec(data: Path, out: Path) -> None:
    """Bring TREC's questions into tables, by their coarse classes."""
    parts = {}
    for name in ("train", "test"):
        lines = (data / "trec" / f"TREC.{name}").read_text(encoding="utf-8").splitlines()
        told = [line.split(" ", 1) for line in lines if line.strip()]
        parts[name] = [(label.split(":")[0], text.strip()) for label, text in told]
    train = random.Random(SEED).sample(parts["train"], len(parts["train"]))
    held_out = len(train) // 10
    write(out / "train.tsv", train[held_out:])
    write(out / "valid.tsv", train[:held_out])
    write(out / "test.tsv", parts["test"])


def cut_prose(text: str, out: Path) -> None:
    """Cut one long text by characters, with line feeds for line ends: the last tenth is to choose by."""
    text = text.replace("\r\n", "\n")
    place = int(len(text) * 0.9)
    for name, part in (("train", text[:place]), ("valid", text[place:])):
        # As bytes, so that no system writes other line ends.
        (out / f"{name}.txt").write_bytes(part.encode())
        print(f"{out / name}.txt: {len(part):,} characters")


def cut_shakespeare(data: Path, out: Path) -> None:
    """Cut the plays."""
    cut_prose((data / "tinyshakespeare" / "input.txt").read_bytes().decode(), out)


def cut_quijote(data: Path, out: Path) -> None:
    """Cut the novel."""
    cut_prose(lzma.decompress((data / "quijote" / "quijote.txt.xz").read_bytes()).decode(), out)


def cut_imdb(data: Path, out: Path) -> None:
    """Take the long reviews."""
    parts: dict[str, list[Labelled]] = {}
    for name in ("train", "test"):
        with lzma.open(data / "imdb" / f"imdb-{name}.tsv.xz", "rt", encoding="utf-8", newline="") as file:
            rows = [(row["label"], row["text"]) for row in csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)]
        parts[name] = [(label, text) for label, text in rows if len(text.split()) > LONG_REVIEW]
    seen = {text for _, text in parts["test"]}
    train = [row for row in random.Random(SEED).sample(parts["train"], len(parts["train"])) if row[1] not in seen]
    held_out = len(train) // 10
    write(out / "train.tsv", train[held_out:])
    write(out / "valid.tsv", train[:held_out])
    write(out / "test.tsv", parts["test"])


def cut_imdb_sentences(data: Path, out: Path) -> None:
    """Draw sentences of the reviews to learn from, labels left out, no two alike."""
    with lzma.open(data / "imdb" / "imdb-train.tsv.xz", "rt", encoding="utf-8", newline="") as file:
        reviews = [row["text"] for row in csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)]
    sentences = (one.strip() for review in reviews for one in _SENTENCE_END.split(review))
    found = sorted({" ".join(one.split()) for one in sentences if one})
    fit = [one for one in found if 3 <= len(one.split()) <= LONGEST_SENTENCE]
    drawn = random.Random(SEED).sample(fit, DRAWN_SENTENCES)
    (out / "sentences.tsv").write_text("text\n" + "".join(f"{one}\n" for one in drawn), encoding="utf-8")
    print(f"{out / 'sentences.tsv'}: {len(drawn):,} of {len(fit):,} sentences")


def cut_newsgroups(data: Path, out: Path) -> None:
    """Bring the posts into tables."""
    for name in ("train", "test"):
        with lzma.open(data / "20newsgroups" / f"20news-bydate-{name}.jsonl.xz", "rt", encoding="utf-8") as file:
            posts = [json.loads(line) for line in file]
        rows = [(post["label"], post["text"]) for post in posts]
        write(out / f"{name}.tsv", rows)
        if name == "train":
            write(out / "half.tsv", random.Random(SEED).sample(rows, len(rows) // 2))


def cut_hyperpartisan(data: Path, out: Path) -> None:
    """Cut the articles into folds, with as many of each class."""
    with lzma.open(data / "hyperpartisan" / "articles-byarticle.jsonl.xz", "rt", encoding="utf-8") as file:
        articles = [json.loads(line) for line in file]
    rows = [
        ("yes" if str(one["hyperpartisan"]).lower() == "true" else "no", f"{one['title']}. {one['text']}")
        for one in articles
    ]
    drawn = random.Random(SEED).sample(rows, len(rows))
    drawn.sort(key=lambda row: row[0])
    for fold in range(FOLDS):
        rest = [row for place, row in enumerate(drawn) if place % FOLDS != fold]
        rest = random.Random(SEED + fold).sample(rest, len(rest))
        held_out = len(rest) // 10
        folder = out / f"fold-{fold + 1}"
        write(folder / "train.tsv", rest[held_out:])
        write(folder / "valid.tsv", rest[:held_out])
        write(folder / "test.tsv", drawn[fold::FOLDS])


CUTS = {
    "sst2": cut_sst2,
    "trec": cut_trec,
    "shakespeare": cut_shakespeare,
    "quijote": cut_quijote,
    "imdb": cut_imdb,
    "imdb-sentences": cut_imdb_sentences,
    "20newsgroups": cut_newsgroups,
    "hyperpartisan": cut_hyperpartisan,
}


def main() -> None:
    """Cut one set into a folder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=CUTS)
    parser.add_argument("out", type=Path)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    CUTS[options.name](Path(os.environ["TRASLUZ_DATA"]), options.out)


if __name__ == "__main__":
    main()
