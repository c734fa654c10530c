"""Opposite directions: increased and decreased, long and short, hyper- and hypo-.

A word of direction says something about the next word with content, or about the last one where none follows. After
"is" and the like, and after a hyphen, it is about the last one. "More common in women" is about women as well. Two
texts have opposite directions where one says only one of two opposites about a word, and the other only the other one.
"""

import re
from functools import cache

from medcards.deck.words import STOP_WORDS

_AXES = {
    "increased increase elevated elevation elevations raised high higher highest above excess excessive excessively "
    "more": (
        "decreased decrease reduced reduction reductions low lower lowered lowest below diminished deficient "
        "deficiency deficiencies less fewer"
    ),
    "increases increasing raise raises raising elevate elevates elevating": (
        "decreases decreasing reduce reduces reducing lowers lowering diminish diminishes diminishing"
    ),
    "large larger largest largeness big bigger enlarged enlargement": "small smaller smallest smallness tiny",
    "long longer longest elongated elongation lengthened lengthening tall taller": (
        "short shorter shortest shortness shortened shortening"
    ),
    "lengthen lengthens": "shorten shortens",
    "wide wider widest widened widening broad broader broadened broadening": (
        "narrow narrower narrowed narrowing narrowings"
    ),
    "widen widens": "narrows",
    "thick thicker thickened thickening thickenings": "thin thinner thinned thinning",
    "thicken thickens": "thins",
    "deep deeper": "shallow shallower superficial superficially",
    "early earlier premature prematurely precocious": "late later delay delays delayed",
    "before": "after",
    "over": "under",
    "up": "down",
    "fast faster rapid rapidly accelerate accelerates accelerated": "slow slower slowly slows slowed slowing",
    "acute acutely": "chronic chronically",
    "benign": "malignant malignancy malignancies",
    "proximal proximally": "distal distally",
    "anterior anteriorly": "posterior posteriorly",
    "medial medially": "lateral laterally",
    "superior superiorly upper upward upwards": "inferior inferiorly lower downward downwards",
    "dorsal dorsally": "ventral ventrally plantar palmar",
    "internal internally inward inwards": "external externally outward outwards",
    "flexion flex flexes flexed flexing": "extension extensions extend extends extended extending",
    "abduction abduct abducts abducted abducting": "adduction adduct adducts adducted adducting",
    "dilation dilations dilatation dilatations dilated": "constriction constrictions constricted",
    "dilate dilates dilating": "constrict constricts constricting",
    "convex convexity": "concave concavity",
    "maternal maternally": "paternal paternally",
    "systolic systole": "diastolic diastole",
    "positive positively positivity": "negative negatively negativity",
    "gain": "loss",
    "most": "least",
}
"""Words of opposite directions. A change ("lowers") is no opposite of a state ("high"): a drug lowers a high level."""
_CHANGE, _PLACE = (next(place for place, words in enumerate(_AXES) if word in words) for word in ("raises", "upper"))
_BARE = {"increase", "decrease", "lower"}
"""Verbs that are a noun or an adjective as well. They are verbs after the words of ``_BEFORE_VERB``."""
_BEFORE_VERB = re.compile(
    r"to|can|could|may|might|will|would|should|that|which|helps?"
    r"|(?!causes|gives|indicates|involves|means|produces|shows)\w{2,}[^\Wiusy]s"
)
"""The last of them is a plural: "statins lower cholesterol"."""
_ANATOMY = set(
    "abdomen abdominal airway airways arm arms back chest end esophageal esophagus extremities extremity eyelid "
    "eyelids face facial gastrointestinal half incisor incisors jaw leg legs lid lids limb limbs lip lips lobe lobes "
    "molar molars motor neuron neurons part pole quadrant respiratory segment segments teeth third thoracic tooth "
    "tract trunk urinary".split()
)
"""Words before which "lower" names a place and no level."""
_PREFIXES = (
    ("hyper", "hypo"),
    ("macro", "micro"),
    ("tachy", "brady"),
    ("poly", "oligo"),
    ("poly", "olig"),
    ("pre", "post"),
    ("intra", "extra"),
    ("endo", "exo"),
)
_SHORTEST_REST = 4
"""A word has a prefix where this many letters follow it at least. "Microscopically" says how, and no direction."""
_DENIALS = {"no", "not", "without", "neither", "nor"}
_NO_DIRECTION = re.compile(
    r"\bat (?:most|least)\b|\b(?:more|less|fewer) than\b|\bor (?:more|less|fewer)\b|\b(?:up|down)\b"
    r"|\bext(?:end(?:s|ed|ing)?|ension) (?:across|along|beyond|for|from|in|into|over|through|throughout|to)\b"
)
"""Comparisons of numbers, places that something extends to, and "up" and "down", which mostly belong to a verb."""
_GRADES = {"more", "less", "fewer", "most", "least"}
"""Words that are about a class as well: "more common in women" is no opposite of "less common in men"."""
_CLASS = re.compile(r"[^.;:,]*? (?:in|among|for|than) ([^.;:,]*)")
_COPULAS = {"is", "are", "was", "were", "be", "been", "being", "becomes", "become", "-"}
_STOPS = set(".;:")
_MEASURES = set(
    "abnormal abnormality abnormally activity amount average blood body cerebrospinal chance circulation compared "
    "concentration csf day degree fluid frequency incidence level likelihood limit mean measured month normal "
    "normalized number plasma prevalence range rate risk serum thickness tissue urine value week year".split()
)
"""What a definition says a measure of. A direction is about the next other word: "decreased level of calcium"."""
_PREFIX = rf"\b({'|'.join(prefix for pair in _PREFIXES for prefix in pair)})"
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
            for axis, first in _sides_in_context(words, place):
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
def _sides_of_words() -> dict[str, list[tuple[int, bool]]]:
    """The axes of each word, and whether it is on the first side."""
    found: dict[str, list] = {}
    for axis, sides in enumerate(_AXES.items()):
        for first, words in zip((True, False), sides, strict=True):
            for word in words.split():
                found.setdefault(word, []).append((axis, first))
    return found


def _sides(word: str) -> list[tuple[int, bool]]:
    return _sides_of_words().get(word, [])


def _sides_in_context(words: list[str], place: int) -> list[tuple[int, bool]]:
    """As :func:`_sides`, for the meaning that a word has at its place: a change, a level or a place of the body."""
    word, before, after = words[place], words[max(0, place - 1) : place], words[place + 1 : place + 3]
    if word in _BARE and before and _BEFORE_VERB.fullmatch(before[0]):
        return [(_CHANGE, word == "increase")]
    if word == "lower" and _ANATOMY & set(after):
        return [(_PLACE, False)]
    return _sides(word)


def _prefixed(word: str) -> list[tuple[str, bool, str]]:
    """The prefixes of a word: the first prefix of the pair, whether it is that one, and the stem of the rest."""
    return [
        (first, prefix == first, _stem(word[len(prefix) :]))
        for pair in _PREFIXES
        for first, prefix in zip(pair[:1] * 2, pair, strict=True)
        if word.startswith(prefix) and len(word) - len(prefix) >= _SHORTEST_REST and word[len(prefix) :][:4] != "scop"
    ]


def _object(words: list[str], place: int) -> str:
    """The stem of the word that a direction is about, empty where it names none; a class follows where one is named."""
    after, before = words[place + 1 :], words[:place][::-1]
    behind = before[:1] and before[0] in _COPULAS and words[place] not in _GRADES
    last, following = _first_content(before), _first_content(after, ",")
    about = last or following if behind else following or last
    if words[place] in _GRADES and (named := _CLASS.match(" ".join(after))):
        return f"{about} {_first_content(named[1].split())}"
    return about


def _first_content(words: list[str], stop: str = ".") -> str:
    """The stem of the first word with content before a stop."""
    for word in words:
        if word in _STOPS or word == stop:
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
