"""Opposite directions: increased and decreased, long and short, hyper- and hypo-.

A text has a pole of an axis where it has a word of that pole and none of the opposite pole. A pole says something about
the next word with content, or about the last one where none follows. Two texts have opposite directions where they have
opposite poles of one axis that say something about the same word.
"""

import re
from functools import cache

from medcards.deck.words import STOP_WORDS

_AXES = {
    "increas(e|ed|es|ing) elevat(ed|es|ion|ions) rais(ed|es|ing) high(er|est)? above excess(ive|ively)?": (
        "decreas(e|ed|es|ing) reduc(e|ed|es|ing|tion|tions) low(ered|ering|est)? below diminish(ed|es)? deficien(t|cy)"
    ),
    "large(r|st)? big(ger)? enlarge(d|ment)?": "small(er|est)? tiny",
    "long(er|est)? elongat(ed|ion) lengthen(ed|ing) tall(er)?": "short(er|est|ened|ening)?",
    "wide(r|st|ned|ning)? broad(er|ened|ening)?": "narrow(er|ed|ing)?",
    "thick(er|ened|ening)?": "thin(ner|ned|ning)?",
    "deep(er)?": "shallow(er)? superficial",
    "early earlier premature(ly)? precocious": "late(r)? delay(ed|s)?",
    "before": "after",
    "fast(er)? rapid(ly)? accelerated": "slow(er|ly|ed|ing)?",
    "acute(ly)?": "chronic(ally)?",
    "benign": "malignant",
    "proximal(ly)?": "distal(ly)?",
    "anterior(ly)?": "posterior(ly)?",
    "medial(ly)?": "lateral(ly)?",
    "superior(ly)? upper upward(s)?": "inferior(ly)? lower downward(s)?",
    "dorsal(ly)?": "ventral(ly)? plantar palmar",
    "internal(ly)? inward(s)?": "external(ly)? outward(s)?",
    "flex(ion|ed)?": "exten(sion|ded)",
    "abduct(ion|ed)": "adduct(ion|ed)",
    "dilat(ion|ation|ed)": "constrict(ion|ed)",
    "convex": "concave",
    "maternal(ly)?": "paternal(ly)?",
    "systolic": "diastolic",
    "positive": "negative",
    "gain": "loss",
    "most": "least",
}
_PREFIXES = {
    "hyper": "hypo",
    "macro": "micro",
    "tachy": "brady",
    "poly": "oligo",
    "pre": "post",
    "intra": "extra",
    "endo": "exo",
}
_SHORTEST_REST = 4
"""A word has a prefix where this many letters follow it at least."""
_DENIALS = {"no", "not", "without", "neither", "nor"}
_STOPS = set(".;:,")
_MEASURES = set(
    "abnormal abnormality abnormally activity amount average blood body cerebrospinal circulation compared "
    "concentration csf degree fluid level limit mean measured normal number plasma range rate serum tissue urine "
    "value".split()
)
"""What a definition says a measure of. A pole is about the next other word: "decreased level of calcium"."""

_PATTERNS = [
    (axis, positive, re.compile("|".join(pole.split())))
    for axis, poles in enumerate(_AXES.items())
    for positive, pole in zip((True, False), poles, strict=True)
]
_PREFIX = rf"\b({'|'.join([*_PREFIXES, *_PREFIXES.values()])})"
_SUSPENDED = re.compile(rf"{_PREFIX} - (and|or) {_PREFIX}(?: - )?(\w+)")
_HYPHENATED = re.compile(rf"{_PREFIX} - ")


def opposite_directions(one: list[str], other: list[str]) -> bool:
    """Whether two texts have opposite poles that are about the same word.

    Parameters
    ----------
    one, other : the words of the texts, see :func:`medcards.deck.words.fact_tokens`.

    >>> opposite_directions("elevation of the level of calcium".split(), "low calcium".split())
    True
    >>> opposite_directions("long fingers".split(), "short toes".split())
    False
    """
    here, there = poles(one), poles(other)
    return any(
        here[axis][0] != there[axis][0] and here[axis][1] & there[axis][1] for axis in here.keys() & there.keys()
    )


def poles(words: list[str]) -> dict[object, tuple[bool, set[str]]]:
    """The axes of which a text has one pole alone, with whether it is the first pole, and what it is about."""
    text = _SUSPENDED.sub(r"\1\4 \2 \3\4", " ".join(words)).replace("lower than", "low than")
    words = _HYPHENATED.sub(r"\1", text).split()
    found: dict[object, dict[bool, set[str]]] = {}
    for place, word in enumerate(words):
        if _DENIALS & set(words[max(0, place - 2) : place]):
            continue
        for axis, positive in _poles_of(word):
            found.setdefault(axis, {}).setdefault(positive, set()).update(_about(words, place))
        for axis, positive, rest in _prefixes_of(word):
            found.setdefault((axis, rest), {}).setdefault(positive, set()).add(rest)
    return {axis: sides.popitem() for axis, sides in found.items() if len(sides) == 1}


@cache
def _poles_of(word: str) -> list[tuple[int, bool]]:
    return [(axis, positive) for axis, positive, pattern in _PATTERNS if pattern.fullmatch(word)]


def is_polar(word: str) -> bool:
    """Whether a word is a pole of an axis, such as "above".

    >>> is_polar("above"), is_polar("about")
    (True, False)
    """
    return bool(_poles_of(word))


def _prefixes_of(word: str) -> list[tuple[str, bool, str]]:
    """The axes of prefixes that a word has: the first prefix, whether it is that one, and the rest of the word."""
    return [
        (first, prefix == first, _stem(word[len(prefix) :]))
        for pair in _PREFIXES.items()
        for first, prefix in zip(pair[:1] * 2, pair, strict=True)
        if word.startswith(prefix) and len(word) - len(prefix) >= _SHORTEST_REST
    ]


def _about(words: list[str], place: int) -> set[str]:
    """The word that a pole is about: the next one with content before a stop, or the last one; a set of one or none."""
    for part in (words[place + 1 :], words[:place][::-1]):
        for word in part:
            if word in _STOPS:
                break
            if _has_content(word):
                return {_stem(word)}
    return set()


def _has_content(word: str) -> bool:
    named = word[0].isalpha() and len(word) > 1
    return named and not is_polar(word) and not {word, _stem(word)} & (STOP_WORDS | _MEASURES)


def _stem(word: str) -> str:
    return word.removesuffix("s")
