"""Training questions for the bi-encoder and the cross-encoder, and wrong answers that are hard to tell from right ones.

sentence-transformers' ``mine_hard_negatives`` is not used: it excludes only the texts that are paired with the same
question, compares candidates with the question and not with the right answer, and draws without a seed.
"""

import numpy as np
import pandas as pd

from medcards import InputError
from medcards.deck.relevance import answer_rows, relevant_answers
from medcards.search.exact import exact_search
from medcards.search.vectors import Vectors

MINING_DEPTH = 50
"""Number of nearest answers per question that negatives are looked for in."""
HARDEST = 20
"""Number of candidates, nearest first, that negatives are drawn from."""
SAME_ANSWER = 0.95
"""Cosine similarity to the right answer from which an answer may be right as well, so that it is not a negative."""


def training_pairs(cards: pd.DataFrame, answers: pd.DataFrame, count: int, seed: int) -> pd.DataFrame:
    """A seeded sample of training questions, each with the row of its right answer in the corpus.

    Parameters
    ----------
    answers : the corpus, see :func:`medcards.deck.cards.corpus`.
    count : the largest number of questions.

    Returns
    -------
    the cards, with the column ``row``.

    Raises
    ------
    InputError : no training question has its answer in the corpus.
    """
    train = cards[cards.split == "train"]
    rows = answer_rows(train, answers)
    train = train.assign(row=rows)[rows.notna()].astype({"row": int})
    if train.empty:
        raise InputError("no training question has its answer among the answers that are searched")
    return train.sample(min(count, len(train)), random_state=seed).reset_index(drop=True)


def hard_negatives(pairs: pd.DataFrame, answers: pd.DataFrame, vectors: Vectors, count: int, seed: int) -> np.ndarray:
    """Mine wrong answers that are near each question, by exact search.

    Candidates are the training answers among the :data:`MINING_DEPTH` nearest answers, without the relevant answers
    (see :func:`medcards.deck.relevance.relevant_answers`) and without near-duplicates of the right answer. Where a
    question has too few candidates, random training answers fill up; where these are too few as well, near-duplicates
    of the right answer count, as far as they are not relevant.

    Parameters
    ----------
    pairs : see :func:`training_pairs`.
    answers : the corpus, in the order of ``vectors.answers``.
    count : number of negatives per question.

    Returns
    -------
    rows of the corpus, shape (pairs, count).

    Raises
    ------
    InputError : there are too few training answers.
    """
    near, _ = exact_search(vectors.questions_of(pairs.card_id), vectors.answers, MINING_DEPTH)
    random = np.random.default_rng(seed)
    ids, training = answers.card_id.to_numpy(), (answers.split == "train").to_numpy()
    everything, negatives = np.arange(len(answers)), np.empty((len(pairs), count), dtype=np.int64)

    def wrong_among(rows: np.ndarray, answer: int, right: set[str], below: float = SAME_ANSWER) -> np.ndarray:
        rows = rows[training[rows] & ~np.isin(ids[rows], list(right))]
        return rows[vectors.answers[rows] @ vectors.answers[answer] < below]

    for place, (found, right) in enumerate(zip(near, relevant_answers(pairs, answers), strict=True)):
        candidates = wrong_among(found, pairs.row[place], right)[:HARDEST]
        if len(candidates) < count:
            others = np.setdiff1d(wrong_among(everything, pairs.row[place], right), candidates)
            if len(candidates) + len(others) < count:
                others = np.setdiff1d(wrong_among(everything, pairs.row[place], right, np.inf), candidates)
            if len(candidates) + len(others) < count:
                raise InputError(f"a training question has no {count} wrong answers: lower the parameter negatives")
            candidates = np.concatenate([candidates, random.choice(others, count - len(candidates), replace=False)])
        negatives[place] = random.choice(candidates, count, replace=False)
    return negatives
