"""The quantities that a text states, as intervals.

"5 mg" is the interval from 5 to 5, "2 to 10 mg" that from 2 to 10, "at least 10 mg" that from 10 on, and "about 10 mg"
that from 9 to 11. "More than 10 mg" and "less than 10 mg" leave out the 10.
"""

import math
import re
from collections import defaultdict
from dataclasses import dataclass

from medcards.deck.words import FUNCTION_WORDS, STOP_WORDS, fact_tokens

_ONES = "one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen"
_ONES = f"{_ONES} eighteen nineteen".split()
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety".split()
_ORDINALS = "first second third fourth fifth sixth seventh eighth ninth tenth".split()
_WORDS = {word: place for words in (_ONES, _ORDINALS) for place, word in enumerate(words, start=1)}
_WORDS |= {word: 10 * place for place, word in enumerate(_TENS, start=2)}
_WORDS |= {f"{ten}{by}{one}": _WORDS[ten] + _WORDS[one] for ten in _TENS for one in _ONES[:9] for by in (" - ", " ")}
_MULTIPLIERS = {"hundred": 1e2, "thousand": 1e3, "million": 1e6, "billion": 1e9}
_DIMENSIONS = {
    "mass": {"kg kilogram": 1e6, "g gram": 1e3, "mg milligram": 1, "mcg μg ug microgram": 1e-3, "ng nanogram": 1e-6},
    "length": {"m meter metre": 1e3, "cm centimeter centimetre": 10, "mm millimeter millimetre": 1, "μm um": 1e-3},
    "volume": {"l liter litre": 1e3, "dl deciliter": 100, "ml milliliter millilitre": 1, "μl ul": 1e-3},
    "amount": {"mol": 1e3, "mmol": 1, "μmol umol": 1e-3, "nmol": 1e-6},
    "time": {
        "year yr": 365.25,
        "month": 365.25 / 12,
        "week wk": 7,
        "day": 1,
        "hour hr h": 1 / 24,
        "minute min": 1 / 1440,
        "second sec": 1 / 86400,
        "ms millisecond": 1 / 86_400_000,
    },
    "share": {"% percent": 1},
}
_UNITS = {
    unit: (dimension, factor)
    for dimension, units in _DIMENSIONS.items()
    for names, factor in units.items()
    for unit in names.split()
}
_MORE, _LESS = "more|greater|larger|longer|older|higher|later", "less|fewer|smaller|shorter|younger|lower|earlier"
_OVER, _UNDER = rf"(?:(?:{_MORE})\ than|over|above|exceed\w*)", rf"(?:(?:{_LESS})\ than|under|below)"
_OR_MORE = rf"\ (?:or|and)\ (?:{_MORE}|above|over)\b(?!\ than)"
_OR_LESS = rf"\ (?:or|and)\ (?:{_LESS}|below|under)\b(?!\ than)"
_AT_LEAST = rf"\b(?:(?:no|not)\ {_UNDER}|at\ least|(?:a\ )?minimum|after)|≥"
_AT_MOST = rf"\b(?:(?:no|not)\ {_OVER}|at\ most|up\ to|within|before|by|until|till|(?:a\ )?maximum)|≤"
_ABOUT = r"\b(?:about|approximately|around|roughly|nearly|almost)|~"
_PLAIN = rf"(?:-?\d[\w.+]*|{'|'.join(map(re.escape, sorted(_WORDS, key=len, reverse=True)))})\b"
_VALUE = rf"{_PLAIN}(?:\ (?:{'|'.join(_MULTIPLIERS)})\b)?"
_SPELLED = "|".join(f"{unit}s?" if len(unit) > 1 and unit != "ms" else unit for unit in _UNITS if unit != "%")
_UNIT = rf"(?:(?:{_SPELLED})\b|%)"
_QUANTITY = re.compile(
    rf"""
    (?: (?: (?P<at_least>{_AT_LEAST}) | (?P<at_most>{_AT_MOST}) | (?P<about>{_ABOUT})
          | (?P<over>\b{_OVER}|>) | (?P<under>\b{_UNDER}|<) | (?P<every>\bevery) )
        (?:\ (?:a|an|the|age|of|or|equal|to))* \  )?
    (?<![\w.]) (?P<first>{_VALUE})
    (?: (?:\ (?P<first_unit>{_UNIT}))? (?:\ ,\ {_VALUE})* (?:\ ,)? \ (?:-|to|up\ to|and|or)\ (?P<last>{_VALUE}) )?
    (?P<suffix> \ (?:st|nd|rd|th)\b )?
    (?: (?P<or_more>{_OR_MORE}|\ \+) | (?P<or_less>{_OR_LESS}) )?
    (?: (?:\ -)? \ (?P<thing>{_UNIT}|[^\W\d_]\S*) (?:\ /\ (?:(?P<per_count>\d\S*)\ )?(?P<per>{_UNIT}))? )?
    (?: (?P<older>{_OR_MORE}) | (?P<younger>{_OR_LESS}) )?
    """,
    re.VERBOSE,
)
_BOUNDS = "above after before below beyond by from over since than till to under until within".split()
_NOUN_BEFORE = re.compile("".join(rf"(?<!\b{bound} )" for bound in _BOUNDS) + r"\b([^\W\d_]\w+)(?: of)? $")
"""A noun before a number, where the number is no end of a range: "by day 5" is no single day."""
_PHRASE_END = re.compile(r" ?(?:$|[.;,)]| (?:and|is|are|or)\b)")
_LIST = [re.compile(rf"(?:^| ){number} [.)]") for number in (1, 2)]
"""A text with "1." and "2." is a list, whose numbers count nothing."""
_NO_NOUNS = {"figure", "item", "step", "table", "type"}
"""Words before numbers that are names: whether type 1 and type 2 differ depends on what they are types of."""
_ABOUT_SHARE = 0.1
"""Share of a number by which "about" extends it in both directions."""
_CONVERTED_SHARE = 0.1
"""Share by which a time may differ from one in another unit: a month has 28 to 31 days."""


@dataclass(frozen=True)
class Quantity:
    """An interval of values.

    Parameters
    ----------
    low, high : its ends, in the base unit of its dimension.
    factor : base units per unit written.
    open : whether an end that is not infinite lies outside.
    """

    low: float
    high: float
    factor: float = 1.0
    open: bool = False

    def disjoint(self, other: "Quantity", tolerance: float = 1e-9) -> bool:
        """Whether no value lies in both intervals, where a value may differ by a share ``tolerance``.

        A comparison meets a number at its end: "more than 10" and "10" are not disjoint. Two comparisons are disjoint
        there if one leaves the end out: "over 5" and "under 5", "5 or less" and "more than 5".
        """
        strict = (self.open or other.open) and not (self._bounded or other._bounded)
        for one, two in ((self, other), (other, self)):
            reach = one.high + tolerance * abs(one.high)
            if reach < two.low or (strict and one.high == two.low):
                return True
        return False

    @property
    def _bounded(self) -> bool:
        return math.isfinite(self.low) and math.isfinite(self.high)

    @property
    def bare(self) -> "Quantity":
        """The numbers as they are written, without the unit."""
        return Quantity(self.low / self.factor, self.high / self.factor, open=self.open)


def quantities(text: str) -> dict[tuple[str, str], list[Quantity]]:
    """The quantities of a text by what they count.

    What is counted is a kind and a name: a dimension ("mass", or "mass/volume" for a concentration), a thing (the word
    after the number), a thing that an ordinal number counts, a noun before the number ("stage 3"), or a rate ("every 6
    hours").

    >>> quantities("2 to 10 mg")
    {('dimension', 'mass'): [Quantity(low=2.0, high=10.0, factor=1, open=False)]}
    >>> quantities("the third day")
    {('ordinal', 'day'): [Quantity(low=3.0, high=3.0, factor=1.0, open=False)]}
    """
    found, text = defaultdict(list), " ".join(fact_tokens(text))
    is_list = all(item.search(text) for item in _LIST)
    for match in _QUANTITY.finditer(text):
        if counted := _counted(match) or (None if is_list else _noun_before(match)):
            *what, factor = counted
            found[tuple(what)].append(_interval(match, factor, *what))
    return dict(found)


def contradicting_kind(what: tuple[str, str], said: list[Quantity], wanted: list[Quantity]) -> str | None:
    """``number`` or ``unit`` where each quantity of one text is disjoint from each one of the other, else None.

    The kind is ``unit`` where the numbers are equal and the units differ: "5 mg" for "5 g".

    Parameters
    ----------
    what : what both texts count, see :func:`quantities`.
    """
    pairs = [(one, other) for one in said for other in wanted]
    for one, other in pairs:
        converted = what[1] == "time" and one.factor != other.factor
        if not one.disjoint(other, _CONVERTED_SHARE if converted else 1e-9):
            return None
    return "unit" if any(one.factor != other.factor and one.bare == other.bare for one, other in pairs) else "number"


def _unit(word: str) -> tuple[str, float] | None:
    """The dimension of a unit, and its number of base units."""
    return _UNITS.get(word) or (_UNITS.get(word.removesuffix("s")) if len(word) > 2 else None)


def _counted(match: re.Match) -> tuple[str, str, float] | None:
    """The kind and the name of what a quantity counts, and the number of base units per unit written."""
    thing = match["thing"] or ""
    named = "" if thing in FUNCTION_WORDS else thing.removesuffix("s")
    if match["suffix"] or match["first"] in _ORDINALS:
        return ("ordinal", named, 1.0) if named else None
    if unit := _unit(thing):
        if not match["per"]:
            return "rate" if match["every"] and unit[0] == "time" else "dimension", *unit
        per, divisor = _unit(match["per"])
        return "dimension", f"{unit[0]}/{per}", unit[1] / divisor / float(match["per_count"] or 1)
    pronoun = match["first"] == "one" and not match["last"]
    return ("thing", named, 1.0) if named and not pronoun else None


def _noun_before(match: re.Match) -> tuple[str, str, float] | None:
    """As :func:`_counted`, for a number at the end of a phrase, which counts the noun before it: "stage 3"."""
    text, start, end = match.string, match.start(), max(match.end("first"), match.end("last"))
    noun = _NOUN_BEFORE.search(text, max(0, start - 40), start)
    if not noun or not match[0][0].isdecimal() or not _PHRASE_END.match(text, end):
        return None
    name = noun[1].removesuffix("s")
    return None if name in _NO_NOUNS or noun[1] in STOP_WORDS | FUNCTION_WORDS else ("noun", name, 1.0)


def _interval(match: re.Match, factor: float, kind: str, name: str) -> Quantity:
    """The interval of a quantity that is written in units of ``factor`` base units.

    A negative number of standard deviations counts as positive, since "-2 SD" and "2 SD below the mean" are the same.
    """
    first = _value(match["first"]) * (_unit(match["first_unit"])[1] if match["first_unit"] else factor)
    last = _value(match["last"]) * factor if match["last"] else first
    low, high = min(first, last), max(first, last)
    if match["about"]:
        low, high = sorted((low * (1 - _ABOUT_SHARE), high * (1 + _ABOUT_SHARE)))
    if any(match[name] for name in ("at_least", "over", "or_more", "older")):
        high = math.inf
    if any(match[name] for name in ("at_most", "under", "or_less", "younger")):
        low = low if match["at_most"] == "by" and name != "time" else -math.inf  # "rises by 5 mg" is no upper end
    if name == "sd" and first < 0:
        low, high = -high, -low
    return Quantity(low, high, factor, open=bool(match["over"] or match["under"]))


def _value(words: str) -> float:
    plain, _, multiplier = words.rpartition(" ")
    if multiplier in _MULTIPLIERS:
        return _value(plain) * _MULTIPLIERS[multiplier]
    return float(_WORDS.get(words, words))
