"""Search in the deck, with what the pipeline made.

>>> from medcards.search import Searcher
>>> hits = Searcher.load("data").search("why are my teeth crooked", k=5)  # doctest: +SKIP
>>> print(hits[0].score, hits[0].card_id, hits[0].answer)  # doctest: +SKIP
"""

from collections.abc import Set
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from pydantic import ValidationError

from medcards import InputError
from medcards.base.files import read_json
from medcards.deck import cards as card_tables
from medcards.deck.relevance import answer_rows
from medcards.deck.words import normalise
from medcards.search.answerability import Answerability, evidence
from medcards.search.cross_encoder import memoised
from medcards.search.encoder import TextEncoder, check_encoder
from medcards.search.exported import search_encoder, search_scorer
from medcards.search.index import load_index
from medcards.search.question_field import QuestionField
from medcards.search.rankings import RANKING_DEPTH, Ranking
from medcards.search.spelling import Spelling
from medcards.search.systems import WITH_QUESTIONS, Retriever, Served
from medcards.search.vectors import search_vectors

LONGEST_QUESTION = 10_000
"""Number of characters of a question, at most. Models cut it far earlier."""


@dataclass(frozen=True)
class Hit:
    """A card that was found.

    Parameters
    ----------
    rank : place in the ranking, from 1.
    score : score by :attr:`Searcher.system`; None for a card that it ranks below the candidates that it scores, and for
        the card of a question of the deck that it does not rank.
    scores : score by every system that found the card.
    """

    rank: int
    card_id: str
    question: str
    answer: str
    source: str
    score: float | None
    scores: dict[str, float]


@dataclass(frozen=True)
class Found:
    """What a search found.

    Parameters
    ----------
    hits : the best cards, best first.
    probability : that the deck has an answer, see :mod:`medcards.search.answerability`.
    refused : whether the probability is so low that the deck probably has no answer.
    searched : the question with its spelling corrected; empty where it was searched as it was asked.
    """

    hits: list[Hit]
    probability: float
    refused: bool
    searched: str = ""


class Searcher:
    """The deck with its served search system, loaded once; see the example at the top of the module."""

    def __init__(
        self,
        answers: pd.DataFrame,
        retriever: Retriever,
        encoder: TextEncoder,
        served: Served,
        answerability: Answerability,
        field: QuestionField | None = None,
        spelling: Spelling | None = None,
        rows_of: dict[str, list[int]] | None = None,
    ):
        self._answers, self._retriever, self._encoder, self._field = answers, retriever, encoder, field
        self.spelling, self._rows_of = spelling, rows_of or {}
        self.served, self.answerability = served, answerability

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
        index = load_index(data / "index", vectors)
        encoder = search_encoder(data / "encoder")
        check_encoder(vectors, encoder, cards)
        scorer = search_scorer(data / "reranker") if served.system == "hybrid_rerank" else None
        if scorer is None and served.system == "hybrid_rerank":
            raise InputError(
                f"{data / 'reranker'} names no cross-encoder, but one is served: run `dvc repro rerank_eval`"
            )
        retriever = Retriever(answers.answer.tolist(), vectors.answers, index, scorer and memoised(scorer))
        field = QuestionField(cards, answers, vectors) if served.questions else None
        spelling = Spelling([*cards.question, *cards.answer]) if served.spelling else None
        rows = answer_rows(cards, answers).dropna().astype(int)
        rows_of = rows.groupby(cards.question[rows.index].map(normalise)).agg(list).to_dict()
        answerability = Answerability.load(data / "rankings")
        return cls(answers, retriever, encoder, served, answerability, field, spelling, rows_of)

    @property
    def system(self) -> str:
        """The name of the system that orders the hits."""
        return WITH_QUESTIONS if self._field else self.served.system

    def search(self, question: str, k: int = 5) -> list[Hit]:
        """The hits of :meth:`find`."""
        return self.find(question, k).hits

    def find(self, question: str, k: int = 5, hidden: Set[int] = frozenset()) -> Found:
        """Find the ``k`` best cards, fewer where fewer are found, and the probability that the deck has an answer.

        A question that stands in the deck, but for case and punctuation, finds its own card first, with probability 1.
        The encoder cuts a question that is longer than its limit. BM25 reads all of it.

        Parameters
        ----------
        hidden : rows of cards that may not be found, see :meth:`rows_but`. The probability is that of the whole deck.

        Raises
        ------
        InputError : the question is empty or longer than :data:`LONGEST_QUESTION`, or ``k`` is not between 1 and 50.
        """
        (found,) = self.find_all([question], k, hidden)
        return found

    def find_all(self, questions: list[str], k: int = 5, hidden: Set[int] = frozenset()) -> list[Found]:
        """Find the best cards of several questions, see :meth:`find`; faster than one question at a time."""
        asked = questions = [check_question(question, k) for question in questions]
        if self.spelling:
            questions = [self.spelling.corrected(question) for question in asked]
        vectors, served = self._encoder(questions), self.served
        rank = partial(self._retriever.rank, questions, vectors, served, ["hybrid" if self._field else served.system])
        found, of_each = rank(), [hidden] * len(questions) if hidden else None
        probabilities = self.answerability.probabilities(evidence(self._retriever, questions, found, served)).tolist()
        if hidden:
            found = rank(of_each)
        if self._field:
            similarities = self._field.similarities(vectors)
            found |= self._retriever.rank_with_questions(questions, similarities, served, of_each)
        return [
            self._found(place, asked[place], questions[place], probabilities[place], k, found, hidden)
            for place in range(len(asked))
        ]

    def rows_but(self, card_ids: Set[str]) -> set[int]:
        """The rows of all searched cards but these, to hide them from :meth:`find`."""
        return set(np.flatnonzero(~self._answers.card_id.isin(card_ids)).tolist())

    def _found(
        self,
        place: int,
        asked: str,
        searched: str,
        probability: float,
        k: int,
        found: dict[str, Ranking],
        hidden: Set[int],
    ) -> Found:
        """What was found for the question number ``place``."""
        ranked, scores = (of[place].tolist() for of in found[self.system])
        score_of = {row: None if np.isnan(score) else score for row, score in zip(ranked, scores, strict=True)}
        own = self._rows_of.get(normalise(asked), [])
        rows = [row for row in dict.fromkeys([*own, *ranked]) if row >= 0 and row not in hidden][:k]
        hits = [self._hit(rank, row, score_of.get(row), place, found) for rank, row in enumerate(rows, start=1)]
        probability = 1.0 if own else probability
        return Found(hits, probability, self.answerability.refuses(probability), searched if searched != asked else "")

    def _hit(self, rank: int, row: int, score: float | None, place: int, found: dict[str, Ranking]) -> Hit:
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
    if len(question) > LONGEST_QUESTION:
        raise InputError(f"the question has {len(question):,} characters: ask in {LONGEST_QUESTION:,} or fewer")
    if not 1 <= k <= RANKING_DEPTH:
        raise InputError(f"k={k}: between 1 and {RANKING_DEPTH} cards can be shown")
    return question
