"""The quantities that a text states, as intervals.

"5 mg" is the interval from 5 to 5, "2 to 10 mg" that from 2 to 10, "more than 10 mg" that from 10 on, and "about 10 mg"
that from 9 to 11. Both ends belong to an interval, so "more than 10 mg" and "10 mg" have a value in common.
"""

import math
import re
from collections import defaultdict
from dataclasses import dataclass

from medcards.deck.words import FUNCTION_WORDS, fact_tokens

_CARDINALS = "one two three four five six seven eight nine ten eleven twelve".split()
_ORDINALS = "first second third fourth fifth sixth seventh eighth ninth tenth".split()
_WORDS = {word: place for words in (_CARDINALS, _ORDINALS) for place, word in enumerate(words, start=1)}
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
_OR_MORE = rf"\ (?:or|and)\ (?:{_MORE}|above|over)\b(?!\ than)"
_OR_LESS = rf"\ (?:or|and)\ (?:{_LESS}|below|under)\b(?!\ than)"
_AT_LEAST = rf"\b(?:(?:{_MORE})\ than|over|above|at\ least|(?:no|not)\ (?:less|fewer)\ than|exceed\w*|after)|[>≥]"
_AT_MOST = (
    rf"\b(?:(?:{_LESS})\ than|under|below|at\ most|up\ to|within|before|(?:no|not)\ (?:more\ than|exceed\w*))|[<≤]"
)
_ABOUT = r"\b(?:about|approximately|around|roughly|nearly|almost)|~"
_VALUE = rf"(?:\d[\w.+]*|{'|'.join(_WORDS)})\b"
_UNIT = rf"(?:(?:{'|'.join(unit for unit in _UNITS if unit != '%')})s?\b|%)"
_QUANTITY = re.compile(
    rf"""
    (?: (?: (?P<at_least>{_AT_LEAST}) | (?P<at_most>{_AT_MOST}) | (?P<about>{_ABOUT}) )
        (?:\ (?:a|an|the|age|of|or|equal|to))* \  )?
    (?<![\w.]) (?P<first>{_VALUE})
    (?: (?:\ (?P<first_unit>{_UNIT}))? \ (?:-|/|to|and|or)\ (?P<last>{_VALUE}) )?
    (?P<suffix> \ (?:st|nd|rd|th)\b )?
    (?: (?P<or_more>{_OR_MORE}|\ \+) | (?P<or_less>{_OR_LESS}) )?
    (?: (?:\ -)? \ (?P<thing>{_UNIT}|[^\W\d_]\S*) (?:\ /\ (?P<per>{_UNIT}))? )?
    (?: (?P<older>{_OR_MORE}) | (?P<younger>{_OR_LESS}) )?
    """,
    re.VERBOSE,
)
_ABOUT_SHARE = 0.1
"""Share of a number by which "about" extends it in both directions."""
_CONVERTED_SHARE = 0.1
"""Share by which a time may differ from one in another unit: a month has 28 to 31 days."""


@dataclass(frozen=True)
class Quantity:
    """The interval from ``low`` to ``high`` in the base unit of its dimension, and the base units per unit written."""

    low: float
    high: float
    factor: float = 1.0

    def disjoint(self, other: "Quantity", tolerance: float = 1e-9) -> bool:
        """Whether no value lies in both intervals, where a value may differ by a share ``tolerance``."""
        return any(one.high + tolerance * abs(one.high) < two.low for one, two in ((self, other), (other, self)))

    @property
    def bare(self) -> "Quantity":
        """The numbers as they are written, without the unit."""
        return Quantity(self.low / self.factor, self.high / self.factor)


def quantities(text: str) -> dict[tuple[str, bool], list[Quantity]]:
    """The quantities of a text by what they count, and by whether an ordinal number counts it.

    What is counted is a dimension ("mass"), a dimension per unit ("mass/volume"), or the word after the number.

    >>> quantities("2 to 10 mg")
    {('mass', False): [Quantity(low=2.0, high=10.0, factor=1.0)]}
    >>> quantities("the third day")
    {('day', True): [Quantity(low=3.0, high=3.0, factor=1.0)]}
    """
    found = defaultdict(list)
    for match in _QUANTITY.finditer(" ".join(fact_tokens(text))):
        ordinal = bool(match["suffix"]) or match["first"] in _ORDINALS
        thing, factor = _counted(match, ordinal)
        if thing:
            found[thing, ordinal].append(_interval(match, factor))
    return dict(found)


def contradicting_kind(thing: str, said: list[Quantity], wanted: list[Quantity]) -> str | None:
    """``number`` or ``unit`` where each quantity of one text is disjoint from each one of the other, else None.

    The kind is ``unit`` where the numbers are equal and the units differ: "5 mg" for "5 g".

    Parameters
    ----------
    thing : what both texts count, see :func:`quantities`.
    """
    pairs = [(one, other) for one in said for other in wanted]
    for one, other in pairs:
        converted = thing == "time" and one.factor != other.factor
        if not one.disjoint(other, _CONVERTED_SHARE if converted else 1e-9):
            return None
    return "unit" if any(one.factor != other.factor and one.bare == other.bare for one, other in pairs) else "number"


def _unit(word: str) -> tuple[str, float] | None:
    """The dimension of a unit, and its number of base units."""
    return _UNITS.get(word) or _UNITS.get(word.removesuffix("s"))


def _counted(match: re.Match, ordinal: bool) -> tuple[str, float]:
    """What a quantity counts, empty where it counts nothing, and the number of base units per unit written."""
    thing = match["thing"] or ""
    if not ordinal and (unit := _unit(thing)):
        per, divisor = _unit(match["per"]) if match["per"] else ("", 1.0)
        return f"{unit[0]}/{per}" if per else unit[0], unit[1] / divisor
    pronoun = match["first"] == "one" and not match["last"]
    return "" if thing in FUNCTION_WORDS or pronoun else thing.removesuffix("s"), 1.0


def _interval(match: re.Match, factor: float) -> Quantity:
    """The interval of a quantity that is written in units of ``factor`` base units."""
    first = _value(match["first"]) * (_unit(match["first_unit"])[1] if match["first_unit"] else factor)
    last = _value(match["last"]) * factor if match["last"] else first
    low, high = min(first, last), max(first, last)
    if match["about"]:
        low, high = low * (1 - _ABOUT_SHARE), high * (1 + _ABOUT_SHARE)
    if match["at_least"] or match["or_more"] or match["older"]:
        high = math.inf
    if match["at_most"] or match["or_less"] or match["younger"]:
        low = -math.inf
    return Quantity(low, high, factor)


def _value(word: str) -> float:
    return float(_WORDS.get(word, word))
