"""A query set, ranked in the whole deck, without its relevant answers, and without its topics."""

from dataclasses import dataclass

import pandas as pd

from medcards.deck.relevance import answer_rows
from medcards.search.answerability import HIDDEN, OFF_TOPIC, WHOLE_DECK, about_deck, evidence
from medcards.search.encoder import TextEncoder
from medcards.search.evaluation import rank_queries
from medcards.search.query_sets import QuerySet, asks_in_other_words
from medcards.search.question_field import QuestionField
from medcards.search.rankings import Ranking
from medcards.search.spelling import Spelling
from medcards.search.systems import WITH_QUESTIONS, Retriever, Served
from medcards.search.vectors import Vectors


@dataclass
class RankedSet:
    """A query set and its rankings.

    Parameters
    ----------
    queries : the questions as they were searched, with their spelling corrected.
    found : the rankings of every system.
    evidence : what tells whether a deck has an answer, of every deck that was asked, see
        :func:`medcards.search.answerability.about_deck`.
    """

    queries: QuerySet
    found: dict[str, Ranking]
    evidence: pd.DataFrame


class SetRanker:
    """Ranks query sets with every system.

    Parameters
    ----------
    cards : the whole deck.
    answers : the corpus, see :func:`medcards.deck.cards.corpus`.
    vectors : the vectors of the deck.
    encoder : the bi-encoder of these vectors.
    spelling : what corrects the spelling of a question; None leaves it as it is.
    """

    def __init__(
        self,
        cards: pd.DataFrame,
        answers: pd.DataFrame,
        vectors: Vectors,
        encoder: TextEncoder,
        retriever: Retriever,
        served: Served,
        spelling: Spelling | None,
    ):
        self._vectors, self._encoder, self._retriever, self._served = vectors, encoder, retriever, served
        self._spelling, self._field = spelling, QuestionField(cards, answers, vectors)
        asking = cards.assign(row=answer_rows(cards, answers)).dropna(subset="row")
        texts = asking.question + "\n" + asking.answer
        self._texts = texts.groupby(asking.row.astype(int)).agg(list).to_dict()

    def rank(self, queries: QuerySet) -> RankedSet:
        """Rank a query set in the whole deck, and gather the evidence of every deck.

        Questions in other words than the deck's own also search the questions of the cards. The others would find
        themselves. Where only its relevant answers are hidden, a question is spelled by the words of the other cards.
        Perturbed questions are not asked of a deck without their topics: they choose nothing.
        """
        relevant = queries.relevant_rows(self._vectors.answer_ids)
        whole = queries.spelled(self._spelling) if self._spelling else queries
        asked = whole.vectors(self._vectors, self._encoder)
        found = rank_queries(whole, asked, self._retriever, self._served)
        evident = [self._evidence(whole, WHOLE_DECK, found), self._asked_without(queries, HIDDEN, relevant)]
        if not queries.perturbed:
            evident.append(self._asked_without(whole, OFF_TOPIC, queries.topic_rows(self._vectors)))
        found.pop("cross_encoder", None)  # scores of candidates, and no ranking
        if asks_in_other_words(queries.name):
            similarities = self._field.measured(whole, asked)
            ranked = self._retriever.rank_with_questions(whole.questions, similarities, self._served)
            found[WITH_QUESTIONS] = ranked[WITH_QUESTIONS]
        return RankedSet(whole, found, pd.concat(evident, ignore_index=True))

    def _asked_without(self, queries: QuerySet, deck: str, hidden: list[set[int]]) -> pd.DataFrame:
        """The evidence of a deck that lacks some answers, and the words of their cards."""
        if self._spelling and deck == HIDDEN:
            lacking = [[text for row in sorted(rows) for text in self._texts[row]] for rows in hidden]
            queries = queries.spelled(self._spelling, lacking)
        asked = queries.vectors(self._vectors, self._encoder)
        found = self._retriever.rank_without(queries.questions, asked, self._served, hidden)
        return self._evidence(queries, deck, found, hidden)

    def _evidence(
        self, queries: QuerySet, deck: str, found: dict[str, Ranking], hidden: list[set[int]] | None = None
    ) -> pd.DataFrame:
        evident = evidence(self._retriever, queries.questions, found, self._served, hidden)
        return about_deck(queries, deck, found, self._served, evident, self._vectors.answer_ids)
