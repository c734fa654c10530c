"""Opposite directions: increased and decreased, long and short, hyper- and hypo-.

A word of direction says something about the next word with content, or about the last one where none follows. After
"is" and the like, and after a hyphen, it is about the last one. Two texts have opposite directions where one says only
one of two opposites about a word, and the other only the other one.
"""

import re
from functools import cache

from medcards.deck.words import STOP_WORDS

_AXES = {
    "increase elevate elevation raise high higher highest above excess excessive more": (
        "decrease reduce reduction low lower lowest below diminish deficient deficiency less fewer"
    ),
    "large larger largest big bigger enlarge": "small smaller smallest tiny",
    "long longer longest elongate elongation lengthen tall taller": "short shorter shortest shorten",
    "wide wider widest widen broad broader broaden": "narrow narrower",
    "thick thicker thicken": "thin thinner",
    "deep deeper": "shallow superficial",
    "early earlier premature precocious": "late later delay",
    "before": "after",
    "over": "under",
    "up": "down",
    "fast faster rapid accelerate": "slow slower",
    "acute": "chronic",
    "benign": "malignant",
    "proximal": "distal",
    "anterior": "posterior",
    "medial": "lateral",
    "superior upper upward": "inferior lower downward",
    "dorsal": "ventral plantar palmar",
    "internal inward": "external outward",
    "flexion flex": "extension extend",
    "abduction abduct": "adduction adduct",
    "dilation dilatation dilate": "constriction constrict",
    "convex": "concave",
    "maternal": "paternal",
    "systolic": "diastolic",
    "positive": "negative",
    "gain": "loss",
    "most": "least",
}
"""Words of opposite directions. Other forms of a word count as well."""
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
_NO_DIRECTION = re.compile(r"\bat (?:most|least)\b|\b(?:more|less|fewer) than\b|\bor (?:more|less|fewer)\b|\bup to\b")
_COPULAS = {"is", "are", "was", "were", "be", "been", "being", "becomes", "become", "-"}
_STOPS = set(".;:")
_MEASURES = set(
    "abnormal abnormality abnormally activity amount average blood body cerebrospinal chance circulation compared "
    "concentration csf day degree fluid frequency incidence level likelihood limit mean measured month normal "
    "normalized number plasma prevalence range rate risk serum tissue urine value week year".split()
)
"""What a definition says a measure of. A direction is about the next other word: "decreased level of calcium"."""
_PREFIX = rf"\b({'|'.join([*_PREFIXES, *_PREFIXES.values()])})"
_SUSPENDED = re.compile(rf"{_PREFIX} - (and|or) {_PREFIX}(?: - )?(\w+)")
_HYPHENATED = re.compile(rf"{_PREFIX} - ")


def opposite_directions(one: list[str], other: list[str]) -> bool:
    """Whether two texts say opposite directions about the same word.

    Parameters
    ----------
    one, other : the words of the texts, see :func:`medcards.deck.words.fact_tokens`.

    >>> opposite_directions("elevation of the level of calcium".split(), "low calcium".split())
    True
    >>> opposite_directions("long fingers".split(), "short toes".split())
    False
    """
    here, there = directions(one), directions(other)
    return any(
        len(here[what]) == len(there[what]) == 1 != len(here[what] | there[what]) for what in here.keys() & there.keys()
    )


def directions(words: list[str]) -> dict[tuple, set[bool]]:
    """The directions of a text: for each axis and each word that it says something about, whether the first or second
    side of the axis, or both.
    """
    text = _NO_DIRECTION.sub("", _SUSPENDED.sub(r"\1\4 \2 \3\4", " ".join(words)))
    words, found = _HYPHENATED.sub(r"\1", text).split(), {}
    for place, word in enumerate(words):
        if not _DENIALS & set(words[max(0, place - 2) : place]):
            for axis, first in _sides(word):
                found.setdefault((axis, _object(words, place)), set()).add(first)
            for axis, first, rest in _prefixed(word):
                found.setdefault((axis, rest), set()).add(first)
    return found


def is_direction(word: str) -> bool:
    """Whether a word is one of a pair of opposites, such as "above".

    >>> is_direction("above"), is_direction("about")
    (True, False)
    """
    return bool(_sides(word))


@cache
def _sides_of_stems() -> dict[str, list[tuple[int, bool]]]:
    """The axes of each stem, and whether it is on the first side."""
    found: dict[str, list] = {}
    for axis, sides in enumerate(_AXES.items()):
        for first, words in zip((True, False), sides, strict=True):
            for stem in {_stem(word) for word in words.split()}:
                found.setdefault(stem, []).append((axis, first))
    return found


def _sides(word: str) -> list[tuple[int, bool]]:
    return _sides_of_stems().get(_stem(word), [])


def _prefixed(word: str) -> list[tuple[str, bool, str]]:
    """The prefixes of a word: the first prefix of the pair, whether it is that one, and the stem of the rest."""
    return [
        (first, prefix == first, _stem(word[len(prefix) :]))
        for pair in _PREFIXES.items()
        for first, prefix in zip(pair[:1] * 2, pair, strict=True)
        if word.startswith(prefix) and len(word) - len(prefix) >= _SHORTEST_REST
    ]


def _object(words: list[str], place: int) -> str:
    """The stem of the word that a direction is about, empty where it names none."""
    after, before = words[place + 1 :], words[:place][::-1]
    behind = before[:1] and before[0] in _COPULAS
    for part in (before, after) if behind else (after, before):
        for word in part:
            if word in _STOPS or (word == "," and part is after):
                break
            if _has_content(word):
                return _stem(word)
    return ""


def _has_content(word: str) -> bool:
    named = word[0].isalpha() and len(word) > 1 and not is_direction(word)
    return named and not {word, word.removesuffix("s")} & (STOP_WORDS | _MEASURES)


@cache
def _stem(word: str) -> str:
    """The stem of a word (library: PyStemmer's English stemmer)."""
    return _stemmer().stemWord(word)


@cache
def _stemmer():
    import Stemmer

    return Stemmer.Stemmer("english")
