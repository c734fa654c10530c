"""BM25 over the words of the answers."""

from collections.abc import Iterable

import numpy as np

from medcards.deck.words import stems
from medcards.search.exact import largest
from medcards.search.rankings import RANKING_DEPTH, Ranking, padded


class Bm25:
    """BM25 (Lucene's variant, k1 1.5, b 0.75) over word stems without English stop words (library: bm25s)."""

    def __init__(self, answers: list[str]):
        import bm25s

        self._index, self._texts, self._answers, words = bm25s.BM25(), answers, len(answers), stems(answers)
        self._index.index(words if any(words) else [["\0"]], show_progress=False)  # bm25s needs a word

    def search(self, questions: list[str], depth: int = RANKING_DEPTH, hidden: list[set[int]] | None = None) -> Ranking:
        """Rank the answers for each question. An answer that shares no stem with the question is not found.

        Parameters
        ----------
        hidden : row numbers of the answers that each question must not find.
        """
        lacking = hidden or [set()] * len(questions)
        found = [self._best(words, depth, rows) for words, rows in zip(stems(questions), lacking, strict=True)]
        return padded(found, min(depth, self._answers))

    def scores(self, questions: list[str], rows: np.ndarray) -> np.ndarray:
        """Score given answers.

        Parameters
        ----------
        rows : row numbers of the corpus, shape (questions, answers).

        Returns
        -------
        scores of the same shape.
        """
        return np.array([self._scores(words)[found] for words, found in zip(stems(questions), rows, strict=True)])

    def _scores(self, words: list[str]) -> np.ndarray:
        known = [word for word in words if word in self._index.vocab_dict]
        return self._index.get_scores(known) if known else np.zeros(self._answers)

    def coverage(
        self, questions: list[str], rows: np.ndarray, hidden: list[set[int]] | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """The share of a question's words that answers hold, weighted by inverse document frequency.

        Parameters
        ----------
        rows : row numbers of the corpus, shape (questions, answers); -1 holds no word.
        hidden : row numbers of the answers that the deck lacks, by question. The weights are those of the whole deck.

        Returns
        -------
        coverage : by answer, shape of ``rows``. A question without a word that is not a stop word has coverage 0.
        known : the share of words that any answer of the deck holds, shape (questions,).
        """
        coverage, known = np.zeros(rows.shape), np.zeros(len(rows))
        for place, asked in enumerate(map(set, stems(questions))):
            weights = {word: self._weight(word) for word in sorted(asked)}
            total = sum(weights.values()) or 1.0
            held = self._words(rows[place].tolist())
            coverage[place] = [sum(weights[word] for word in weights if word in words) / total for words in held]
            lacking = np.zeros(self._answers, dtype=bool)
            lacking[list(hidden[place]) if hidden else []] = True
            there = [word for word in weights if not lacking[self._holding(word)].all()]
            known[place] = sum(weights[word] for word in there) / total
        return coverage, known

    def _words(self, rows: Iterable[int]) -> list[set[str]]:
        """The word stems of answers; none of row -1."""
        return [set(words) for words in stems([self._texts[row] if row >= 0 else "" for row in rows])]

    def _holding(self, word: str) -> np.ndarray:
        """The row numbers of the answers that hold a word stem."""
        starts, place = self._index.scores["indptr"], self._index.vocab_dict.get(word)
        return self._index.scores["indices"][slice(0, 0) if place is None else slice(starts[place], starts[place + 1])]

    def _weight(self, word: str) -> float:
        """The inverse document frequency of a word stem, as in Lucene's BM25."""
        frequency = len(self._holding(word))
        return float(np.log(1 + (self._answers - frequency + 0.5) / (frequency + 0.5)))

    def _best(self, words: list[str], depth: int, hidden: set[int]) -> list[tuple[int, float]]:
        scores = self._scores(words)
        scores[list(hidden)] = 0
        return [(int(row), float(scores[row])) for row in largest(scores, depth) if scores[row] > 0]
