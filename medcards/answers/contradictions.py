"""Rules that find where an answer contradicts its reference: numbers, units, sides, directions and negations.

Texts are folded first, see :func:`medcards.deck.words.fold`.

``number``     Both texts count the same thing, and their values have none in common. The same thing is the same
               dimension or the same next word ("5 cm", "two kidneys"), or the same word before a number that ends a
               phrase ("stage 3"). Ordinals ("third finger") are compared with ordinals only. Ranges and comparisons
               are intervals, see :mod:`medcards.answers.quantities`.
``unit``       As ``number``, but the numbers are equal: "5 mg" for "5 g".
``side``       One text names the left side alone and the other the right side alone. Unilateral and bilateral are
               compared in the same way. "Left untreated" and "the right dose" name no side.
``direction``  One text says one direction alone about a word and the other the opposite one: increased and decreased,
               long and short, hyper- and hypo-, see :mod:`medcards.answers.directions`.
``negation``   One text denies words that the other only states. A text denies the two words after no, not, without,
               never, cannot, neither, nor, "absence of" or "lack of". Prepositions and the like do not count, and a
               stop ends the denial. "With or without" and "absence or" deny and state at once. "Fever is not present"
               denies fever as well. A denial in a condition ("if it does not spread") denies nothing. A text with the
               word abnormality or anomaly states nothing.

The rules read words only. They miss other denials ("is absent"). They take "no pain at night" for a denial of "pain".

docs/contradictions.csv holds hits that the authors judged: 50 on a direction and 50 of the other kinds. They are random
samples of the hits among the answers of the ten nearest training cards of the default deck's 1,644 validation
questions. The rules were changed several times after hits on validation questions were judged, see docs/LOG.md. The
judgements are those of hits that the present rules still find. A hit counts as a contradiction if the answer would come
closer to the reference with the opposite word: the other number, unit, side or direction, or with or without the
denial.
"""

import re
from itertools import pairwise

from medcards.answers.directions import directions, opposite_directions
from medcards.answers.quantities import contradicting_kind, quantities
from medcards.deck.words import FUNCTION_WORDS, fact_tokens

CONTRADICTION_KINDS = ("number", "unit", "side", "direction", "negation")

_STOPS = set(".;:,()")
_DENIALS = {"no", "not", "without", "never", "cannot", "neither", "nor"}
_NOUNS_OF_DENIAL = {"absence", "lack"}
_COPULAS = {"is", "are", "was", "were"}
_DENYING_COPULAS = {f"{copula}n't" for copula in _COPULAS}
_EXISTENCE = set(
    "available detected found given indicated known necessary needed observed possible present recommended required "
    "seen used".split()
)
"""Words after "is not" that deny the noun before it: "fever is not present" is "no fever"."""
_CONDITIONS = {"if", "when", "unless", "whether"}
_UNSTATED = {"unless", "absent"}
"""Words after which a text does not state the next words."""
_VAGUE = {"abnormality", "abnormalities", "anomaly", "anomalies"}
_SCOPE = 2
_OPPOSITE_SIDES = {"left": "right", "right": "left", "unilateral": "bilateral", "bilateral": "unilateral"}
_OPPOSITE_SIDES |= {f"{side}ly": f"{_OPPOSITE_SIDES[side]}ly" for side in ("unilateral", "bilateral")}
_NO_SIDE = {
    "left": re.compile("un\\w+ed|alone|intact|over|behind|in|with"),
    "right": re.compile("away|now|after|before|to|amount|answer|choice|dose|time"),
}
"""Words before which left and right name no side."""


def contradictions(answer: str, reference: str) -> set[str]:
    """The kinds of contradiction, of :data:`CONTRADICTION_KINDS`, between an answer and its reference.

    >>> sorted(contradictions("A cyst of the left kidney, 5 mg", "A cyst of the right kidney, 5 g"))
    ['side', 'unit']
    """
    said, wanted = fact_tokens(answer), fact_tokens(reference)
    found = _numbers(answer, reference)
    if {_OPPOSITE_SIDES[side] for side in _sides(said)} & _sides(wanted):
        found.add("side")
    if opposite_directions(said, wanted):
        found.add("direction")
    if _denied_where_stated(said, wanted) or _denied_where_stated(wanted, said):
        found.add("negation")
    return found


def occasions(reference: str) -> set[str]:
    """The kinds of contradiction that are possible with a reference.

    >>> sorted(occasions("A cyst of the right kidney"))
    ['negation', 'side']
    """
    wanted, found = fact_tokens(reference), {"negation"}
    if quantities(reference):
        found |= {"number", "unit"}
    if _sides(wanted):
        found.add("side")
    if any(len(sides) == 1 for sides in directions(wanted).values()):
        found.add("direction")
    return found


def _numbers(answer: str, reference: str) -> set[str]:
    said, wanted = quantities(answer), quantities(reference)
    kinds = (contradicting_kind(what, said[what], wanted[what]) for what in said.keys() & wanted.keys())
    return {kind for kind in kinds if kind}


def _sides(words: list[str]) -> set[str]:
    """The sides that a text names without their opposites."""
    named = {
        word
        for word, after in pairwise([*words, ""])
        if word in _OPPOSITE_SIDES and not (word in _NO_SIDE and _NO_SIDE[word].fullmatch(after))
    }
    return {side for side in named if _OPPOSITE_SIDES[side] not in named}


def _denied_where_stated(one: list[str], other: list[str]) -> bool:
    """Whether one text denies words that the other only states."""
    phrases, *named = _denied_and_stated(one)
    denied_there, stated, open_there = _denied_and_stated(other)
    stated, still_named = stated - open_there.union(*denied_there), set().union(*named)
    if _VAGUE & set(other):
        return False
    return any(phrase and phrase <= stated and not phrase <= still_named for phrase in phrases)


def _denied_and_stated(words: list[str]) -> tuple[list[set[str]], set[str], set[str]]:
    """The sets of words that a text denies, the words that it states, and those that it leaves open.

    A word may be in each. Left open are words of a condition ("unless treated", "if it does not spread"). Words after
    "absent" count with them.
    """
    denied: list[set[str]] = []
    stated: set[str] = set()
    left_open: set[str] = set()
    scope, left, either, condition = left_open, 0, False, False
    for place, word in enumerate(words):
        next_words = words[place + 1 : place + 2]
        if word in _DENIALS or word.endswith("n't") or (word in _NOUNS_OF_DENIAL and next_words in (["of"], ["or"])):
            scope = left_open if condition else _subject(words, place)
            stated -= scope
            denied += [] if condition else [scope]
            left, either = _SCOPE, "or" in words[max(0, place - 1) : place] + next_words
        elif word in _UNSTATED:
            left_open |= _subject(words, place)
            scope, left, either = left_open, _SCOPE, "or" in next_words
        elif word in _STOPS or word[0].isdecimal():
            left, condition = 0, condition and word not in _STOPS
        elif word not in FUNCTION_WORDS and word[0].isalpha():
            if left:
                scope.add(_singular(word))
            if not left or either:
                stated.add(_singular(word))
            left = max(0, left - 1)
        condition = condition or word in _CONDITIONS
    return denied, stated, left_open


def _subject(words: list[str], place: int) -> set[str]:
    """The noun that a denial after a copula denies: fever in "fever is not present" and "fever is absent"."""
    copula = place if words[place] in _DENYING_COPULAS else place - 1
    denies_being = words[place] == "absent" or _EXISTENCE & set(words[place + 1 : place + 2])
    if copula < 1 or words[copula] not in _COPULAS | _DENYING_COPULAS or not denies_being:
        return set()
    noun = words[copula - 1]
    return {_singular(noun)} if noun[0].isalpha() and noun not in FUNCTION_WORDS else set()


def _singular(word: str) -> str:
    """The word without the s of "kidneys" and "spreads"."""
    return word.removesuffix("s")
