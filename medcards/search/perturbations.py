"""Perturbed questions: the deck's own questions with typos, with words dropped, and in lower case.

They measure how retrieval works on questions as people type them.
"""

import hashlib
from collections.abc import Callable

import numpy as np

from medcards.deck.words import STOP_WORDS

KEYBOARD_NEIGHBOURS = {
    key: row[max(0, place - 1) : place] + row[place + 1 : place + 2]
    for row in ("qwertyuiop", "asdfghjkl", "zxcvbnm")
    for place, key in enumerate(row)
}
"""The letters to the left and right of each letter on a QWERTY keyboard."""
CHANGED_SHARE = 0.3
"""Share of the changeable words that are changed; at least one word."""
LONG_WORD = 4
"""Number of letters from which a word can get a typo."""


def typos(question: str, random: np.random.Generator) -> str:
    """The question with one typo in some of its longer words.

    A typo swaps two letters, leaves one out, doubles one, or hits a neighbouring key. Stop words are changed only
    where the question has no other long word.
    """
    words = question.split()
    long = [place for place, word in enumerate(words) if sum(map(str.isalpha, word)) >= LONG_WORD]
    for place in _some([place for place in long if _is_content(words[place])] or long, random):
        words[place] = _with_typo(words[place], random)
    return " ".join(words)


def _with_typo(word: str, random: np.random.Generator) -> str:
    letters = [place for place in range(len(word) - 1) if word[place : place + 2].isalpha()]
    if not letters:
        return word
    place = int(random.choice(letters))
    here, after = word[place], word[place + 1]
    neighbour = str(random.choice(list(KEYBOARD_NEIGHBOURS.get(here.lower(), here))))
    typed = [after + here, after, here + here + after, neighbour + after]
    return word[:place] + typed[random.integers(len(typed))] + word[place + 2 :]


def word_drops(question: str, random: np.random.Generator) -> str:
    """The question without some of its content words.

    At least one content word stays. Where there is only one, stop words are dropped instead.
    """
    words = question.split()
    content = [place for place, word in enumerate(words) if _is_content(word)]
    others = [place for place in range(len(words)) if place not in content]
    dropped = _some(content if len(content) > 1 else others[0 if content else 1 :], random)
    return " ".join(word for place, word in enumerate(words) if place not in dropped)


def lower_case(question: str, random: np.random.Generator) -> str:
    """The question in lower case and without punctuation."""
    kept = "".join(letter if letter.isalnum() or letter.isspace() else " " for letter in question.lower())
    return " ".join(kept.split()) or question


def _is_content(word: str) -> bool:
    return word.strip("?!.,:;'\"()").lower() not in STOP_WORDS


def _some(places: list[int], random: np.random.Generator) -> list[int]:
    count = max(1, round(CHANGED_SHARE * len(places))) if places else 0
    return sorted(int(place) for place in random.choice(places, count, replace=False)) if count else []


PERTURBATIONS: dict[str, Callable[[str, np.random.Generator], str]] = {
    "typos": typos,
    "word_drops": word_drops,
    "lower_case": lower_case,
}


def perturb(name: str, question: str, seed: int) -> str:
    """Perturb a question. The result depends on the question and the seed only.

    Parameters
    ----------
    name : a name of :data:`PERTURBATIONS`.

    Examples
    --------
    >>> perturb("lower_case", "What is Gout?", seed=0)
    'what is gout'
    """
    digest = hashlib.sha256(f"{seed}\x1f{question}".encode()).digest()
    return PERTURBATIONS[name](question, np.random.default_rng(int.from_bytes(digest[:8], "big")))
