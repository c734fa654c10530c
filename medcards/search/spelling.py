"""Spelling of a question, corrected by the words of the deck."""

import re
from collections import Counter
from collections.abc import Iterable

from rapidfuzz import process
from rapidfuzz.distance import OSA

from medcards.deck.words import stems

SHORTEST = 4
"""Number of letters from which a word is corrected."""
_WORD = re.compile(r"[^\W\d_]+")


class Spelling:
    """Replaces words that the deck lacks by its word at a distance of one typo, the most frequent one.

    A typo is a letter that is added, left out or replaced, or two neighbours that are swapped (Damerau, A Technique for
    Computer Detection and Correction of Spelling Errors, 1964: 80% of all misspellings; library: rapidfuzz). A word
    stays if the deck has another form of it, if it is short, or if all of its letters are capitals.

    Parameters
    ----------
    texts : the searched texts.

    Examples
    --------
    >>> spelling = Spelling(["Gout is an arthritis of the joints."])
    >>> spelling.corrected("Is gout an arthrtis of one joint?")
    'Is gout an arthritis of one joint?'
    """

    def __init__(self, texts: Iterable[str]):
        self._count = Counter(word for text in texts for word in _WORD.findall(text.lower()))
        self._stems = {stem for found in stems([" ".join(self._count)]) for stem in found}
        self._of_length: dict[int, list[str]] = {}
        for word in self._count:
            self._of_length.setdefault(len(word), []).append(word)

    def corrected(self, question: str) -> str:
        """The question with its unknown words replaced."""
        return _WORD.sub(lambda found: self._corrected(found[0]), question)

    def _corrected(self, typed: str) -> str:
        word = typed.lower()
        if len(word) < SHORTEST or typed.isupper() or word in self._count or self._has_stem(word):
            return typed
        lengths = range(len(word) - 1, len(word) + 2)
        near = [known for length in lengths for known in self._of_length.get(length, ())]
        found = process.extract(word, near, scorer=OSA.distance, score_cutoff=1, limit=None)
        return max((known for known, _, _ in found), key=lambda known: (self._count[known], known), default=typed)

    def _has_stem(self, word: str) -> bool:
        (found,) = stems([word])
        return all(stem in self._stems for stem in found)
