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
_WHOLE_WORD = re.compile(r"(?<![^\W\d_]['’])[^\W\d_]+(?![^\W\d_]|['’][^\W\d_])")
"""A word that is no part of one with an apostrophe, such as "couldn't", whose parts look like typos."""


class Spelling:
    """Replaces words that the deck lacks by its word at a distance of one typo, the most frequent one.

    A typo is a letter that is added, left out or replaced, or two neighbours that are swapped (Damerau, A Technique for
    Computer Detection and Correction of Spelling Errors, 1964: 80% of all misspellings; library: rapidfuzz). A word
    stays if the deck has another form of it, if it is short, if it has an apostrophe, or if all of its letters are
    capitals.

    Parameters
    ----------
    texts : the questions and the answers of the deck.

    Examples
    --------
    >>> spelling = Spelling(["Gout is an arthritis of the joints."])
    >>> spelling.corrected("Is gout an arthrtis of one joint?")
    'Is gout an arthritis of one joint?'
    >>> Spelling(["It could hurt."]).corrected("It couldn't hurt")
    "It couldn't hurt"
    """

    def __init__(self, texts: Iterable[str]):
        self._count = _words(texts)
        self._stem = dict(zip(self._count, map(_stem_of, stems(list(self._count))), strict=True))
        self._stems: Counter[str] = Counter()
        self._of_length: dict[int, list[str]] = {}
        for word, count in self._count.items():
            self._stems[self._stem[word]] += count
            self._of_length.setdefault(len(word), []).append(word)

    def corrected(self, question: str, lacking: Iterable[str] = ()) -> str:
        """The question with its unknown words replaced.

        Parameters
        ----------
        lacking : texts of ``texts`` that the deck is to lack.
        """
        lost = _words(lacking)
        lost_stems: Counter[str] = Counter()
        for word, count in lost.items():
            lost_stems[self._stem[word]] += count
        return _WHOLE_WORD.sub(lambda found: self._corrected(found[0], lost, lost_stems), question)

    def _corrected(self, typed: str, lost: Counter[str], lost_stems: Counter[str]) -> str:
        word = typed.lower()
        if len(word) < SHORTEST or typed.isupper() or self._count[word] > lost[word]:
            return typed
        stem = self._stem[word] if word in self._stem else _stem_of(stems([word])[0])
        if not stem or self._stems[stem] > lost_stems[stem]:
            return typed
        lengths = range(len(word) - 1, len(word) + 2)
        near = [known for length in lengths for known in self._of_length.get(length, ())]
        found = process.extract(word, near, scorer=OSA.distance, score_cutoff=1, limit=None)
        there = [known for known, _, _ in found if self._count[known] > lost[known]]
        return max(there, key=lambda known: (self._count[known] - lost[known], known), default=typed)


def _words(texts: Iterable[str]) -> Counter[str]:
    return Counter(word for text in texts for word in _WORD.findall(text.lower()))


def _stem_of(found: list[str]) -> str:
    """The stem of a word, which :func:`stems` gives as a list; empty for a stop word."""
    return " ".join(found)
