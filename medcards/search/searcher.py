"""Search in the deck, with what the pipeline made.

>>> from medcards.search import Searcher
>>> hits = Searcher.load("data").search("why are my teeth crooked", k=5)  # doctest: +SKIP
>>> print(hits[0].score, hits[0].card_id, hits[0].answer)  # doctest: +SKIP
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from pydantic import ValidationError

from medcards import InputError
from medcards.base.files import read_json
from medcards.deck import cards as card_tables
from medcards.search.encoder import TextEncoder, check_encoder
from medcards.search.exported import search_encoder, search_scorer
from medcards.search.index import HnswIndex
from medcards.search.systems import RANKING_DEPTH, Retriever, Served
from medcards.search.vectors import search_vectors


@dataclass(frozen=True)
class Hit:
    """A card that was found.

    Parameters
    ----------
    rank : place in the ranking, from 1.
    score : score by the served system; None where ``hybrid_rerank`` ranks the card below the candidates that it scores.
    scores : score by every system that the served system is made of, and by itself.
    """

    rank: int
    card_id: str
    question: str
    answer: str
    source: str
    score: float | None
    scores: dict[str, float]


class Searcher:
    """The deck with its served search system, loaded once; see the example at the top of the module."""

    def __init__(self, answers: pd.DataFrame, retriever: Retriever, encoder: TextEncoder, served: Served):
        self._answers, self._retriever, self._encoder, self.served = answers, retriever, encoder, served

    @classmethod
    def load(cls, data: str | Path = "data") -> "Searcher":
        """Load what the pipeline made.

        Parameters
        ----------
        data : the folder that the pipeline writes.

        Raises
        ------
        InputError : a file is missing or damaged, or two files do not belong together.
        """
        data = Path(data)
        cards = card_tables.load_cards(data / "cards")
        answers = card_tables.corpus(cards)
        try:
            served = Served(**read_json(data / "rankings" / "served.json"))
        except ValidationError:
            raise InputError(
                f"{data / 'rankings' / 'served.json'} is damaged: run `dvc repro -f rerank_eval`"
            ) from None
        vectors = search_vectors(data, cards)
        index = HnswIndex.load(data / "index", vectors.answers)
        encoder = search_encoder(data / "encoder")
        check_encoder(vectors, encoder, cards)
        scorer = search_scorer(data / "reranker") if served.system == "hybrid_rerank" else None
        if scorer is None and served.system == "hybrid_rerank":
            raise InputError(
                f"{data / 'reranker'} names no cross-encoder, but one is served: run `dvc repro rerank_eval`"
            )
        return cls(answers, Retriever(answers.answer.tolist(), vectors.answers, index, scorer), encoder, served)

    def search(self, question: str, k: int = 5) -> list[Hit]:
        """Find the ``k`` best cards, best first; fewer where fewer are found.

        The encoder cuts a question that is longer than its limit. BM25 reads all of it.

        Raises
        ------
        InputError : the question is empty, or ``k`` is not between 1 and 50.
        """
        (hits,) = self.search_all([question], k)
        return hits

    def search_all(self, questions: list[str], k: int = 5) -> list[list[Hit]]:
        """Find the best cards of several questions, see :meth:`search`; faster than one question at a time."""
        questions = [check_question(question, k) for question in questions]
        vectors = self._encoder(questions)
        found = self._retriever.rank(questions, vectors, self.served, [self.served.system])
        ranked, scores = found[self.served.system]
        return [
            [
                self._hit(rank, int(row), None if np.isnan(score) else float(score), place, found)
                for rank, (row, score) in enumerate(zip(ranked[place, :k], scores[place, :k], strict=True), start=1)
                if row >= 0
            ]
            for place in range(len(questions))
        ]

    def _hit(self, rank: int, row: int, score: float | None, place: int, found: dict) -> Hit:
        """The card in a row of the corpus, with its score by each system for the question number ``place``."""
        card = self._answers.iloc[row]
        scores = {}
        for system, (rows, values) in found.items():
            ranks = np.flatnonzero(rows[place] == row)
            if len(ranks) and not np.isnan(values[place, ranks[0]]):
                scores[system] = float(values[place, ranks[0]])
        return Hit(rank, card.card_id, card.question, card.answer, card.source, score, scores)


def check_question(question: str, k: int) -> str:
    """The question with single spaces.

    Raises
    ------
    InputError : the question is empty, or ``k`` is not between 1 and :data:`RANKING_DEPTH`.
    """
    question = " ".join(question.split())
    if not question:
        raise InputError("the question is empty: ask something")
    if not 1 <= k <= RANKING_DEPTH:
        raise InputError(f"k={k}: between 1 and {RANKING_DEPTH} cards can be shown")
    return question
