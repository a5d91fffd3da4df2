"""Programs that run an exported encoder with ONNX Runtime alone, one for each task: for the READMEs of its folders."""

from trasluz.checkpoints.model_folder import LoadedModel
from trasluz.text.running_words import WORD

_OPENING = """\
import json

import numpy
import onnxruntime
from tokenizers import {imported}

config = json.load(open("config.json", encoding="utf-8"))
session = onnxruntime.InferenceSession("model.onnx")
{tokenizer}
tokenizer.encode_special_tokens = True  # whatever a text says, it stays text
tokenizer.enable_truncation(config["max_length"]{direction})
tokenizer.enable_padding(pad_id=config["pad_id"])


def inputs(read):
    return {{
        "ids": numpy.array([one.ids for one in read]),
        "lengths": numpy.array([sum(one.attention_mask) for one in read]),{segments}
    }}
"""
_SEGMENTS = """
        "segments": numpy.array([one.type_ids for one in read]),"""
_TOKENIZER = 'tokenizer = Tokenizer.from_file("tokenizer.json")'
_WITH_MASKS = """\
vocabulary = json.load(open("tokenizer.json", encoding="utf-8"))
for token in vocabulary["added_tokens"]:
    # A text may hold masks, and no other special token.
    token["special"] = token["special"] and token["id"] != config["mask_id"]
tokenizer = Tokenizer.from_str(json.dumps(vocabulary))"""
_LIKE_WORDS = """\
content = json.dumps(json.load(open("tokenizer.json", encoding="utf-8")))
# The model has learnt from words, each with its blank, the first one too.
tokenizer = Tokenizer.from_str(content.replace('"add_prefix_space": false', '"add_prefix_space": true'))"""

_SOFTMAX = """

def softmax(logits):
    weights = numpy.exp(logits - logits.max(-1, keepdims=True))
    return weights / weights.sum(-1, keepdims=True)
"""
_SIGMOID = """

def sigmoid(logits):
    return 1 / (1 + numpy.exp(-logits))
"""

_EMBED = """

def embed(texts):
    return session.run(["vectors"], inputs(tokenizer.encode_batch(texts)))[0]
"""
_CLASSIFY = """

def classify(texts, second_texts=None):
    pairs = texts if second_texts is None else list(zip(texts, second_texts))
    (logits,) = session.run(None, inputs(tokenizer.encode_batch(pairs)))
    return [dict(zip(config["labels"], scores.tolist())) for scores in {scores}]
"""
_TAG = """

# Cuts at blanks and sets signs apart, but for those inside words, as in U.S. and O'Neill.
word_cutter = pre_tokenizers.Split(
    Regex(
        WORD
    ),
    "removed",
    invert=True,
)


def tag(texts):
    read = tokenizer.encode_batch(texts)
    (logits,) = session.run(None, inputs(read))
    return [tagged(*one) for one in zip(texts, read, softmax(logits))]


def tagged(text, read, scores):
    words = {}
    for position, word in enumerate(read.word_ids):
        if word is not None:
            words.setdefault(word, []).append(position)
    cut = [place for _, place in word_cutter.pre_tokenize_str(text)]
    found, last = [], None
    for first, *others in words.values():
        start, end = read.offsets[first][0], read.offsets[[first, *others][-1]][1]
        start = end - len(text[start:end].lstrip())
        if start == end:
            continue
        word = next((place for place in cut if place[0] <= start and end <= place[1]), None)
        if word and word == last:
            found[-1] = (found[-1][0], end, *found[-1][2:])
        else:
            best = int(scores[first].argmax())
            found.append((start, end, config["labels"][best], float(scores[first][best])))
        last = word
    return [(text[start:end], label, score) for start, end, label, score in found]
"""
_FILL = """

def fill(texts, top=5):
    given = inputs(tokenizer.encode_batch(texts))
    rows, columns = numpy.nonzero(given["ids"] == config["mask_id"])
    (logits,) = session.run(None, {**given, "places": rows * given["ids"].shape[1] + columns})
    found = [[] for _ in texts]
    for row, scores in zip(rows, softmax(logits)):
        best = numpy.argsort(-scores)[:top].tolist()
        found[row].append([(tokenizer.id_to_token(index), float(scores[index])) for index in best])
    return found
"""
_ANSWER = """

def answer(question, context, longest_answer=30):
    tokenizer.no_truncation()
    asked = len(tokenizer.encode(question, add_special_tokens=False).ids)
    room = config["max_length"] - tokenizer.num_special_tokens_to_add(True) - asked
    if room < 1:
        raise ValueError(f"the question has {asked} tokens, which leave no room for a context")
    # A context that is too long is read in windows that overlap.
    tokenizer.enable_truncation(config["max_length"], stride=min(128, room // 2), strategy="only_second")
    read = tokenizer.encode(question, context)
    windows = [read, *read.overflowing]
    (logits,) = session.run(None, inputs(windows))
    spans = []
    for one, scores in zip(windows, logits):
        inside = [position for position, text in enumerate(one.sequence_ids) if text == 1]
        for first in inside:
            for last in range(first, min(first + longest_answer, inside[-1] + 1)):
                spans.append((scores[first, 0] + scores[last, 1], one.offsets[first][0], one.offsets[last][1]))
    if not spans:
        return "", 0.0
    best, start, end = max(spans)
    return context[start:end].strip(), float(1 / sum(numpy.exp(score - best) for score, _, _ in spans))
"""

_LABELS = {
    "one": "A text has one label: the likeliest. The scores are probabilities.",
    "several": "A label holds where its score, a probability, is at least 0.5; a text may have several, or none.",
    "number": "The score is the number itself.",
}


def program_for(loaded: LoadedModel) -> tuple[str, str]:
    """Return the program for a model's task, and a sentence about what it returns."""
    segments = _SEGMENTS if loaded.config.num_segments > 1 else ""
    opening = _OPENING.format(
        imported="Regex, Tokenizer, pre_tokenizers" if loaded.task == "tag" else "Tokenizer",
        tokenizer=_tokenizer_for(loaded),
        direction=', direction="left"' if loaded.source_tokenizer.keep == "end" else "",
        segments=segments,
    )
    kind = loaded.config.label_kind
    match loaded.task:
        case "classify":
            scores = {"one": "softmax(logits)", "several": "sigmoid(logits)", "number": "logits"}[kind]
            function = {"one": _SOFTMAX, "several": _SIGMOID, "number": ""}[kind]
            return opening + function + _CLASSIFY.format(scores=scores), _LABELS[kind]
        case "tag":
            says = "`tag` gives the words of each text with their tags and probabilities; a word's tag is its first "
            return opening + _SOFTMAX + _TAG.replace("WORD", ascii(WORD)), says + "piece's."
        case "fill-mask":
            mask = loaded.source_tokenizer.tokens([loaded.source_tokenizer.mask_id])[0]
            says = f"`fill` gives, for each `{mask}` of each text, the likeliest tokens with their probabilities."
            return opening + _SOFTMAX + _FILL, says
        case "answer":
            return opening + _ANSWER, "`answer` gives the likeliest stretch of the context, and its probability."
        case _:
            return opening + _EMBED, "`embed` gives one vector a text. Asked for `states`, the session gives them all."


def _tokenizer_for(loaded: LoadedModel) -> str:
    """Return the lines that read the tokenizer as the model's task asks for it."""
    if loaded.task == "fill-mask":
        return _WITH_MASKS
    return _LIKE_WORDS if loaded.task == "tag" and loaded.source_tokenizer.adds_blank_to_words else _TOKENIZER
