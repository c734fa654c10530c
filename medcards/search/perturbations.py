"""Harder questions made from the deck's own: what people type is not what the deck asks."""

import hashlib
from collections.abc import Callable

import numpy as np

from medcards.explore.vocabulary import STOP_WORDS

NEIGHBOURS = {
    key: row[max(0, place - 1) : place] + row[place + 1 : place + 2]
    for row in ("qwertyuiop", "asdfghjkl", "zxcvbnm")
    for place, key in enumerate(row)
}
"""The letters beside each letter on a QWERTY keyboard."""
SHARE = 0.3
"""Of the words that can be changed, so many are, one at least."""
LONG = 4
"""A typo needs a word of so many letters."""


def typos(question: str, random: np.random.Generator) -> str:
    """One slip in each of some longer words: two letters swapped, one left out, doubled, or hit beside.

    Words that say what is asked come first; only where there are none, others are hit.
    """
    words = question.split()
    long = [place for place, word in enumerate(words) if sum(map(str.isalpha, word)) >= LONG]
    for place in _some([place for place in long if _says_something(words[place])] or long, random):
        words[place] = _slip(words[place], random)
    return " ".join(words)


def _slip(word: str, random: np.random.Generator) -> str:
    letters = [place for place in range(len(word) - 1) if word[place : place + 2].isalpha()]
    if not letters:
        return word
    place = int(random.choice(letters))
    here, after = word[place], word[place + 1]
    beside = str(random.choice(list(NEIGHBOURS.get(here.lower(), here))))
    slips = [after + here, after, here + here + after, beside + after]
    return word[:place] + slips[random.integers(len(slips))] + word[place + 2 :]


def word_drops(question: str, random: np.random.Generator) -> str:
    """Some of the words that say what is asked left out, but never all; where there is only one, some of the others."""
    words = question.split()
    content = [place for place, word in enumerate(words) if _says_something(word)]
    others = [place for place in range(len(words)) if place not in content]
    dropped = _some(content if len(content) > 1 else others[0 if content else 1 :], random)
    return " ".join(word for place, word in enumerate(words) if place not in dropped)


def lower_case(question: str, random: np.random.Generator) -> str:
    """No capitals and no punctuation, as in a search box."""
    kept = "".join(letter if letter.isalnum() or letter.isspace() else " " for letter in question.lower())
    return " ".join(kept.split()) or question


def _says_something(word: str) -> bool:
    return word.strip("?!.,:;'\"()").lower() not in STOP_WORDS


def _some(places: list[int], random: np.random.Generator) -> list[int]:
    count = max(1, round(SHARE * len(places))) if places else 0
    return sorted(int(place) for place in random.choice(places, count, replace=False)) if count else []


PERTURBATIONS: dict[str, Callable[[str, np.random.Generator], str]] = {
    "typos": typos,
    "word_drops": word_drops,
    "lower_case": lower_case,
}


def perturb(name: str, question: str, seed: int) -> str:
    """A question perturbed in the way named, the same for the same seed whatever else is perturbed.

    >>> perturb("lower_case", "What is Gout?", seed=0)
    'what is gout'
    """
    digest = hashlib.sha256(f"{seed}\x1f{question}".encode()).digest()
    return PERTURBATIONS[name](question, np.random.default_rng(int.from_bytes(digest[:8], "big")))
