"""A query set, ranked in the whole deck, without its relevant answers, and without its topics."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from medcards.search.answerability import HIDDEN, OFF_TOPIC, WHOLE_DECK, about_deck, evidence
from medcards.search.evaluation import rank_queries, ranking_table
from medcards.search.query_sets import QuerySet
from medcards.search.question_field import QuestionField
from medcards.search.rankings import Ranking
from medcards.search.systems import WITH_QUESTIONS, Retriever, Served
from medcards.search.vectors import Vectors


@dataclass
class RankedSet:
    """A query set and its rankings.

    Parameters
    ----------
    found : the rankings of every system.
    hidden : the rankings of the served system without the relevant answers of each question.
    evidence : what tells whether a deck has an answer, of every deck that was asked, see
        :func:`medcards.search.answerability.about_deck`.
    """

    queries: QuerySet
    found: dict[str, Ranking]
    hidden: dict[str, Ranking]
    evidence: pd.DataFrame

    def table(self, answer_ids: np.ndarray) -> pd.DataFrame:
        """All rankings as a long table; ``hidden`` marks those without the relevant answers."""
        tables = ((self.found, False), (self.hidden, True))
        return pd.concat(
            [ranking_table(found, self.queries, answer_ids).assign(hidden=hidden) for found, hidden in tables]
        )


def rank_set(
    queries: QuerySet, asked: np.ndarray, retriever: Retriever, served: Served, vectors: Vectors, field: QuestionField
) -> RankedSet:
    """Rank a query set with every system.

    Questions in other words than the deck's own also search the questions of the cards. The others would find
    themselves. Perturbed questions are not asked of a deck without their topics: they choose nothing.

    Parameters
    ----------
    asked : unit vectors of the questions, shape (questions, dimension).
    vectors : the vectors of the deck.
    """
    ids, texts, relevant = vectors.answer_ids, queries.questions, queries.relevant_rows(vectors.answer_ids)
    found = rank_queries(queries, asked, retriever, served)
    hidden = retriever.rank_without(texts, asked, served, relevant)
    decks = {WHOLE_DECK: (found, None), HIDDEN: (hidden, relevant)}
    if not queries.perturbed:
        topics = queries.topic_rows(vectors)
        decks[OFF_TOPIC] = retriever.rank_without(texts, asked, served, topics), topics
    evident = [
        about_deck(queries, deck, rankings, served, evidence(retriever, texts, rankings, served, lacking), ids)
        for deck, (rankings, lacking) in decks.items()
    ]
    found.pop("cross_encoder", None)  # scores of candidates, and no ranking
    hidden = {served.system: hidden[served.system]}
    if queries.in_other_words:
        similarities = field.measured(queries, asked)
        found[WITH_QUESTIONS] = retriever.rank_with_questions(texts, similarities, served)
        hidden[WITH_QUESTIONS] = retriever.rank_with_questions(texts, similarities, served, relevant)
    return RankedSet(queries, found, hidden, pd.concat(evident, ignore_index=True))
