"""Rules that find where an answer contradicts its reference: numbers, units, sides and negations.

Texts are compared in lower case.

``number``    Both texts count the same thing, and they share none of its values. The same thing is the same unit or the
              same next word ("5 cm", "two kidneys"); ordinals ("third finger") are compared with ordinals only. Values
              of one dimension are converted first, so "10 mm" equals "1 cm".
``unit``      As ``number``, but the bare numbers are equal: "5 mg" for "5 g".
``side``      One text names the left side alone and the other the right side alone. Unilateral and bilateral are
              compared in the same way.
``negation``  One text denies words that the other only states. A text denies the two words after no, not, without,
              never, cannot, neither, nor, "absence of" or "lack of". Prepositions and the like do not count, and a stop
              ends the denial. "With or without" and "absence or" deny and state at once. A text with the word
              abnormality or anomaly states nothing.

The rules read words only. They miss other denials ("is absent"). They take "no pain at night" for a denial of "pain".

docs/contradictions.csv holds 50 hits that a person judged. They are a random sample of the hits among the answers of
the three nearest training cards of the default deck's 1,644 validation questions. The rules were settled on the test
questions before. A hit was judged a contradiction if the reference would be false when the answer were true.
"""

from collections import defaultdict

from medcards.deck.words import fact_tokens

CONTRADICTION_KINDS = ("number", "unit", "side", "negation")

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
    """The kinds of contradiction, of :data:`CONTRADICTION_KINDS`, between an answer and its reference.

    >>> sorted(contradictions("A cyst of the left kidney, 5 mg", "A cyst of the right kidney, 5 g"))
    ['side', 'unit']
    """
    said, wanted = fact_tokens(answer), fact_tokens(reference)
    found = _numbers(said, wanted)
    if {_OPPOSITES[side] for side in _sides(said)} & _sides(wanted):
        found.add("side")
    if _denied_where_stated(said, wanted) or _denied_where_stated(wanted, said):
        found.add("negation")
    return found


def occasions(reference: str) -> set[str]:
    """The kinds of contradiction that are possible with a reference.

    >>> sorted(occasions("A cyst of the right kidney"))
    ['negation', 'side']
    """
    wanted = fact_tokens(reference)
    found = {"negation"}
    if _quantities(wanted):
        found |= {"number", "unit"}
    if _sides(wanted):
        found.add("side")
    return found


def _sides(words: list[str]) -> set[str]:
    """The sides that a text names without their opposites."""
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
    """The values that a text counts: {(dimension or thing, whether ordinal): {value in base units: bare number}}."""
    found: dict[object, dict[float, float]] = defaultdict(dict)
    for place, word in enumerate(words):
        rest = words[place + 1 :]
        ordinal = word in _ORDINALS or (word[0].isdecimal() and rest[:1] and rest[0] in ("st", "nd", "rd", "th"))
        if word[0].isdecimal():
            value = float(word)
            rest = rest[1:] if ordinal else rest
        elif word in _ORDINALS or word in _CARDINALS:
            value = float(_ORDINALS.get(word) or _CARDINALS[word])
        else:
            continue
        while rest and (rest[0] in _CONNECTORS or rest[0][0].isdecimal() or rest[0] in _CARDINALS):  # of a range
            rest = rest[1:]
        if not rest or not (rest[0].isalpha() or rest[0] == "%") or rest[0] in _EMPTY:
            continue
        thing = rest[0].removesuffix("s") if len(rest[0]) > 2 else rest[0]
        dimension, factor = _UNITS.get(thing, (thing, 1.0)) if not ordinal else (thing, 1.0)
        found[dimension, ordinal][round(value * factor, 9)] = value
    return found


def _denied_where_stated(one: list[str], other: list[str]) -> bool:
    """Whether one text denies words that the other only states."""
    phrases, still_stated = _denied_and_stated(one)
    denied_there, stated = _denied_and_stated(other)
    stated = stated - set().union(*denied_there)
    if _VAGUE & set(other):
        return False
    return any(phrase and phrase <= stated and not phrase <= still_stated for phrase in phrases)


def _denied_and_stated(words: list[str]) -> tuple[list[set[str]], set[str]]:
    """The sets of words that a text denies, and the words that it states. A word may be in both."""
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
