"""The questions that retrieval is measured on: the deck's own, those of other query sets, and perturbed ones."""

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from medcards.deck.cards import sample
from medcards.deck.relevance import relevant_answers
from medcards.search.encoder import TextEncoder
from medcards.search.exact import largest, largest_similarity
from medcards.search.perturbations import PERTURBATIONS, perturb
from medcards.search.spelling import Spelling
from medcards.search.vectors import Vectors

TOPIC = 0.1
"""Share of the corpus that is hidden with a question's relevant answers, so that the deck lacks its topic."""


@dataclass
class QuerySet:
    """Questions of one kind.

    Parameters
    ----------
    split, name : the split of the cards, and the name of the query set.
    cards : the cards that the questions come from, one per question.
    questions : the texts of the questions.
    relevant : ids of the relevant answers of each question, see :func:`medcards.deck.relevance.relevant_answers`.
    """

    split: str
    name: str
    cards: pd.DataFrame
    questions: list[str]
    relevant: list[set[str]]

    @classmethod
    def joined(cls, sets: "list[QuerySet]") -> "QuerySet":
        """The questions of several query sets of one split as one."""
        questions = [question for one in sets for question in one.questions]
        relevant = [answers for one in sets for answers in one.relevant]
        cards = pd.concat([one.cards for one in sets], ignore_index=True)
        return cls(sets[0].split, "+".join(one.name for one in sets), cards, questions, relevant)

    @property
    def perturbed(self) -> bool:
        """Whether the texts differ from those of the cards."""
        return self.name in PERTURBATIONS

    def relevant_rows(self, answer_ids: np.ndarray) -> list[set[int]]:
        """The rows of the relevant answers in a corpus with these card ids."""
        place = {card: row for row, card in enumerate(answer_ids)}
        return [{place[card] for card in ids} for ids in self.relevant]

    def topic_rows(self, known: Vectors) -> list[set[int]]:
        """The rows of the relevant answers, and of the share :data:`TOPIC` of the corpus that is most similar to them.

        A deck without these answers lacks the topic of the question.

        Parameters
        ----------
        known : the encoder's vectors of the deck.
        """
        count, topics = max(1, round(TOPIC * len(known.answers))), []
        for rows in self.relevant_rows(known.answer_ids):
            similar = largest_similarity(known.answers[sorted(rows)], known.answers)
            topics.append(rows | set(largest(similar, count).tolist()))
        return topics

    def spelled(self, spelling: Spelling, lacking: list[list[str]] | None = None) -> "QuerySet":
        """The same questions with their spelling corrected, which is what is searched.

        Parameters
        ----------
        lacking : texts that the deck is to lack, by question.
        """
        texts = lacking or [[]] * len(self.questions)
        return replace(self, questions=[spelling.corrected(*row) for row in zip(self.questions, texts, strict=True)])

    def vectors(self, known: Vectors, encoder: TextEncoder) -> np.ndarray:
        """Unit vectors of the questions. Those that differ from the questions of their cards are encoded.

        Parameters
        ----------
        known : the encoder's vectors of the cards' questions.
        """
        vectors = known.questions_of(self.cards.card_id)
        changed = np.array(self.questions) != self.cards.question.to_numpy()
        if changed.any():
            vectors[changed] = encoder([self.questions[place] for place in np.flatnonzero(changed)])
        return vectors


def asks_in_other_words(name: str) -> bool:
    """Whether a query set, such as ``layperson``, asks in other words than the deck's own questions."""
    return name != "own" and name not in PERTURBATIONS


def query_sets(cards: pd.DataFrame, answers: pd.DataFrame, split: str, count: int, seed: int) -> list[QuerySet]:
    """Samples of a split's questions: the deck's own, then other query sets of the source, then perturbed own ones.

    Parameters
    ----------
    answers : the corpus, see :func:`medcards.deck.cards.corpus`.
    count : the largest number of questions per query set.
    """
    sets = []
    for name in sorted(set(cards.query_set[cards.split == split]), key=lambda name: (name != "own", name)):
        asking = sample(cards, split, count, seed, name)
        sets.append(QuerySet(split, name, asking, asking.question.tolist(), relevant_answers(asking, answers)))
    own = sets[0]
    for name in PERTURBATIONS:
        questions = [perturb(name, question, seed) for question in own.questions]
        sets.append(QuerySet(split, name, own.cards, questions, own.relevant))
    return sets
