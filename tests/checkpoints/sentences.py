"""Sentences of our own, in any number: what tokenizers are trained on and small models translate."""

import random

_SUBJECTS = {
    "the old miller": "el viejo molinero",
    "my little sister": "mi hermana pequeña",
    "a tired sailor": "un marinero cansado",
    "nobody in the village": "nadie en el pueblo",
    "our neighbour's cat": "el gato del vecino",
    "the girl from Óbidos": "la niña de Óbidos",
    "everybody": "todo el mundo",
    "she": "ella",
}
_VERBS = {
    "sees": "ve",
    "has forgotten": "ha olvidado",
    "will paint": "pintará",
    "never liked": "nunca quiso",
    "is looking for": "busca",
    "kept": "guardó",
}
_OBJECTS = {
    "the light in the paper": "la luz en el papel",
    "seven blue boats": "siete barcos azules",
    "a letter without words": "una carta sin palabras",
    "the bread": "el pan",
    "what the wind said": "lo que dijo el viento",
    "an unusually long corridor": "un pasillo larguísimo",
    "it": "lo",
}
_ENDS = {
    ".": ".",
    "!": "!",
    ", again and again.": ", una y otra vez.",
    " before 10:30.": " antes de las 10:30.",
    "": "",
}


def pairs(count: int, seed: int = 0) -> list[tuple[str, str]]:
    """Return English sentences with word-by-word Spanish, of one to some fifteen words."""
    draw = random.Random(seed)
    found = []
    for _ in range(count):
        parts = [_SUBJECTS, _VERBS, _OBJECTS][: draw.choice([1, 2, 3, 3, 3])]
        chosen = [draw.choice(list(part.items())) for part in parts]
        end = draw.choice(list(_ENDS.items()))
        found.append(
            (" ".join(source for source, _ in chosen) + end[0], " ".join(target for _, target in chosen) + end[1])
        )
    return found
