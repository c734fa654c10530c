"""Where an answer says the opposite of its reference, in what a bag of words hardly shows.

The rules, in full. Texts are compared in lower case.

``number``    Both texts count the same thing (the same unit or the same next word, ordinals apart: "5 cm", "third
              finger", "two kidneys") and share none of its values. Values of one dimension are converted first, so
              "10 mm" is "1 cm".
``unit``      The same, but the bare numbers agree: "5 mg" for "5 g".
``side``      One text is about the left alone and the other about the right alone; likewise unilateral and bilateral.
``negation``  What one text denies (the next two words, prepositions and the like left out, after no, not, without,
              never, cannot, neither, nor, "absence of" or "lack of"; a stop ends it) the other only states, each word
              of it. "With or without" and "absence or" deny and state at once. A text that speaks of an abnormality
              or anomaly leaves open which, and states nothing.

They are rules about words: they miss what is denied otherwise ("is absent"), and they take "no pain at night" for a
denial of "pain". docs/contradictions.csv holds 50 hits, drawn at random from those among the answers of the three
nearest training cards of each of the default deck's 1,644 validation questions, after the rules were settled on the
test questions; each was read, and judged a contradiction where, if the answer were true, the reference would be false.
"""

import re
from collections import defaultdict

KINDS = ("number", "unit", "side", "negation")

_CARDINALS = dict(zip("two three four five six seven eight nine ten eleven twelve".split(), range(2, 13), strict=True))
_ORDINALS = dict(
    zip("first second third fourth fifth sixth seventh eighth ninth tenth".split(), range(1, 11), strict=True)
)
_DIMENSIONS = {
    "mass": {"kg": 1e6, "g": 1e3, "mg": 1.0, "mcg": 1e-3, "µg": 1e-3, "ug": 1e-3},
    "length": {"m": 1e3, "cm": 10.0, "mm": 1.0, "µm": 1e-3, "um": 1e-3},
    "volume": {"l": 1e3, "dl": 100.0, "ml": 1.0},
    "time": {"year": 8766.0, "month": 730.5, "week": 168.0, "day": 24.0, "hour": 1.0, "minute": 1 / 60},
    "share": {"%": 1.0, "percent": 1.0},
}
_UNITS = {unit: (dimension, factor) for dimension, units in _DIMENSIONS.items() for unit, factor in units.items()}
_TOKEN = re.compile(r"\d+(?:\.\d+)?|[^\W\d_]+(?:'t)?|%|[.;:,()]")
_CONNECTORS = {"to", "or", "and"}
_EMPTY = set(
    "a all an and any are as at be by can for from in is it its may of on or some that the their this to".split()
)
_EMPTY |= {"was", "with"}
_DENIALS = {"no", "not", "without", "never", "cannot", "neither", "nor"}
_NOUNS_OF_DENIAL = {"absence", "lack"}
_VAGUE = {"abnormality", "abnormalities", "anomaly", "anomalies"}
_SCOPE = 2
_OPPOSITES = {"left": "right", "right": "left", "unilateral": "bilateral", "bilateral": "unilateral"}


def contradictions(answer: str, reference: str) -> set[str]:
    """The kinds of contradiction, of :data:`KINDS`, between an answer and its reference.

    >>> sorted(contradictions("A cyst of the left kidney, 5 mg", "A cyst of the right kidney, 5 g"))
    ['side', 'unit']
    """
    said, wanted = _words(answer), _words(reference)
    found = _numbers(said, wanted)
    if {_OPPOSITES[side] for side in _sides(said)} & _sides(wanted):
        found.add("side")
    if _denied_where_stated(said, wanted) or _denied_where_stated(wanted, said):
        found.add("negation")
    return found


def occasions(reference: str) -> set[str]:
    """The kinds of contradiction that a reference gives any occasion for.

    >>> sorted(occasions("A cyst of the right kidney"))
    ['negation', 'side']
    """
    wanted = _words(reference)
    found = {"negation"}
    if _quantities(wanted):
        found |= {"number", "unit"}
    if _sides(wanted):
        found.add("side")
    return found


def _words(text: str) -> list[str]:
    return _TOKEN.findall(text.lower().replace("standard deviation", "sd"))


def _sides(words: list[str]) -> set[str]:
    """The sides that a text names alone, without their opposites."""
    return {side for side, other in _OPPOSITES.items() if side in words and other not in words}


def _numbers(said: list[str], wanted: list[str]) -> set[str]:
    found, reference = set(), _quantities(wanted)
    for what, amounts in _quantities(said).items():
        others = reference.get(what)
        if others and not amounts.keys() & others.keys():
            bare = set(amounts.values()) & set(others.values())
            found.add("unit" if bare else "number")
    return found


def _quantities(words: list[str]) -> dict[object, dict[float, float]]:
    """What is counted (a dimension, or a thing; whether by ordinals): its values in base units, and the bare ones."""
    found: dict[object, dict[float, float]] = defaultdict(dict)
    for place, word in enumerate(words):
        rest = words[place + 1 :]
        ordinal = word in _ORDINALS or (word[0].isdigit() and rest[:1] and rest[0] in ("st", "nd", "rd", "th"))
        if word[0].isdigit():
            value = float(word)
            rest = rest[1:] if ordinal else rest
        elif word in _ORDINALS or word in _CARDINALS:
            value = float(_ORDINALS.get(word) or _CARDINALS[word])
        else:
            continue
        while rest and (rest[0] in _CONNECTORS or rest[0][0].isdigit() or rest[0] in _CARDINALS):  # of a range
            rest = rest[1:]
        if not rest or not (rest[0].isalpha() or rest[0] == "%") or rest[0] in _EMPTY:
            continue
        thing = rest[0].removesuffix("s") if len(rest[0]) > 2 else rest[0]
        dimension, factor = _UNITS.get(thing, (thing, 1.0)) if not ordinal else (thing, 1.0)
        found[dimension, ordinal][round(value * factor, 9)] = value
    return found


def _denied_where_stated(one: list[str], other: list[str]) -> bool:
    """Whether one text denies what the other only states."""
    phrases, still_stated = _denied_and_stated(one)
    denied_there, stated = _denied_and_stated(other)
    stated = stated - set().union(*denied_there)
    if _VAGUE & set(other):
        return False
    return any(phrase and phrase <= stated and not phrase <= still_stated for phrase in phrases)


def _denied_and_stated(words: list[str]) -> tuple[list[set[str]], set[str]]:
    """What a text denies, as sets of words, and the words that it states; a word may be in both."""
    denied: list[set[str]] = []
    stated: set[str] = set()
    left, either = 0, False
    for place, word in enumerate(words):
        before, after = words[max(0, place - 1) : place], words[place + 1 : place + 2]
        noun = word in _NOUNS_OF_DENIAL and after in (["of"], ["or"])
        if word in _DENIALS or word.endswith("n't") or noun:
            denied.append(set())
            left, either = _SCOPE, "or" in before + after
        elif not word[0].isalpha():
            left = 0
        elif word not in _EMPTY:
            if left:
                denied[-1].add(word)
                left -= 1
                if either:
                    stated.add(word)
            else:
                stated.add(word)
    return denied, stated
