"""Search in the questions of the cards beside their answers.

A question of the deck would find itself. So this search is measured on query sets in other words than the deck's own
questions, such as ``layperson``. There all questions in the words of the asked question are left out.
"""

from functools import cached_property

import numpy as np
import pandas as pd

from medcards.deck.relevance import answer_rows
from medcards.deck.words import stems, template_words
from medcards.search.exact import similarities
from medcards.search.query_sets import QuerySet
from medcards.search.vectors import Vectors

ASKED_BLOCK = 64
"""Number of queries whose similarities to all texts are in memory at a time."""


class QuestionField:
    """The questions of all cards, each with the answer of the corpus that it asks for.

    Parameters
    ----------
    cards : the whole deck.
    answers : the corpus, see :func:`medcards.deck.cards.corpus`.
    vectors : the vectors of the deck, those of its questions among them.
    """

    def __init__(self, cards: pd.DataFrame, answers: pd.DataFrame, vectors: Vectors):
        rows = answer_rows(cards, answers).to_numpy()
        order = np.argsort(rows, kind="stable")[: int(np.isfinite(rows).sum())]  # NaN comes last
        self._rows, self._first = np.unique(rows[order].astype(np.int64), return_index=True)
        self._cards, self._order, self._vectors = cards, order, vectors
        self._columns = vectors.question_rows(cards.card_id.iloc[order])

    @cached_property
    def _words(self) -> pd.Series:
        """The stems of each card's question, by card id: sorted, and without those of the template of the questions."""
        found = stems(self._cards.question.tolist())
        template = template_words(found)
        keys = [" ".join(sorted(set(words) - template or set(words))) for words in found]
        return pd.Series(keys, index=self._cards.card_id)

    def similarities(self, asked: np.ndarray, left_out: list[str] | None = None) -> np.ndarray:
        """Cosine similarity of each question to each answer, or to the nearest question that asks for it if higher.

        Parameters
        ----------
        asked : unit vectors of the questions, shape (questions, dimension).
        left_out : by question, the card whose question is not searched, nor any other question in its words.

        Returns
        -------
        shape (questions, answers).
        """
        found = similarities(asked, self._vectors.answers)
        if left_out is not None:
            of_cards, of_asked = self._words.to_numpy()[self._order], self._words[left_out].to_numpy()
        for start in range(0, len(asked), ASKED_BLOCK):
            block = similarities(asked[start : start + ASKED_BLOCK], self._vectors.questions)[:, self._columns]
            if left_out is not None:
                block[of_asked[start : start + ASKED_BLOCK, None] == of_cards] = -1
            best = np.maximum.reduceat(block, self._first, axis=1)
            part = found[start : start + ASKED_BLOCK]
            part[:, self._rows] = np.maximum(part[:, self._rows], best)
        return found

    def measured(self, queries: QuerySet, asked: np.ndarray) -> np.ndarray:
        """The similarities of a query set. Each question, and others in its words, are left out of its search."""
        return self.similarities(asked, queries.cards.card_id.tolist())
