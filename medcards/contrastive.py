"""What the bi-encoder's adaptation and the cross-encoder's training share: pairs, hard negatives, frozen layers."""

from collections.abc import Callable

import numpy as np
import pandas as pd

from medcards import InputError
from medcards.cards import relevant_answers

NEIGHBOURS = 50
"""So many nearest answers are looked at for negatives."""
HARDEST = 20
"""Negatives are drawn from so many of them."""
NEAR_DUPLICATE = 0.95
"""An answer whose cosine similarity to the right one is as high may be right as well, so it is no negative."""


def training_pairs(cards: pd.DataFrame, answers: pd.DataFrame, count: int, seed: int) -> pd.DataFrame:
    """A seeded sample of training questions, each with the row of its right answer in the corpus.

    An everyday wording, whose own answer is not searched, is paired with the answer of its concept.

    Parameters
    ----------
    answers : the corpus, see :func:`medcards.cards.corpus`.
    count : questions, at most.

    Returns
    -------
    the cards, with the column ``row``.

    Raises
    ------
    InputError : no training question has its answer in the corpus.
    """
    place = pd.Series(range(len(answers)), index=answers.card_id)
    of_concept = pd.Series(range(len(answers)), index=answers.concept).drop("", errors="ignore")
    of_concept = of_concept[~of_concept.index.duplicated()]
    train = cards[cards.split == "train"]
    rows = train.card_id.map(place).fillna(train.concept.map(of_concept))
    train = train.assign(row=rows)[rows.notna()].astype({"row": int})
    if train.empty:
        raise InputError("no training question has its answer among the answers that are searched")
    return train.sample(min(count, len(train)), random_state=seed).reset_index(drop=True)


def hard_negatives(
    pairs: pd.DataFrame,
    answers: pd.DataFrame,
    vectors: np.ndarray,
    search: Callable[[int], np.ndarray],
    count: int,
    seed: int,
) -> np.ndarray:
    """Wrong answers that lie near each question: rows of the corpus, shape (pairs, count).

    Drawn among the nearest training answers without what is right for the question (see
    :func:`medcards.cards.relevant_answers`) and without near-duplicates of the right answer; a question with too few
    such neighbours gets others at random.

    Parameters
    ----------
    pairs : see :func:`training_pairs`.
    vectors : the answers' unit vectors.
    search : from a number of neighbours to their rows, shape (pairs, neighbours), best first.
    """
    random = np.random.default_rng(seed)
    ids, training = answers.card_id.to_numpy(), (answers.split == "train").to_numpy()
    found, relevant = search(NEIGHBOURS), relevant_answers(pairs, answers)
    negatives = np.empty((len(pairs), count), dtype=np.int64)
    for place, (near, right, row) in enumerate(zip(found, relevant, pairs.row, strict=True)):

        def wrong(rows: np.ndarray, right: set[str] = right, row: int = row) -> np.ndarray:
            similar = vectors[rows] @ vectors[row] >= NEAR_DUPLICATE
            return rows[training[rows] & ~similar & ~np.isin(ids[rows], list(right))]

        candidates = wrong(near)[:HARDEST]
        if len(candidates) < count:
            others = np.setdiff1d(wrong(np.arange(len(answers))), candidates)
            if len(candidates) + len(others) < count:
                raise InputError(f"the deck has no {count} wrong answers for a training question: lower the negatives")
            candidates = np.concatenate([candidates, random.choice(others, count - len(candidates), replace=False)])
        negatives[place] = random.choice(candidates, count, replace=False)
    return negatives


def freeze(encoder, layers: int) -> None:
    """Leave the embeddings and the lowest ``layers`` layers of a sentence-transformers model alone; 0 freezes nothing.

    Raises
    ------
    InputError : the model is no transformer, or has no layer left to train.
    """
    from torch import nn

    blocks = max((part for part in encoder[0].modules() if isinstance(part, nn.ModuleList)), key=len, default=[])
    if layers >= len(blocks):
        raise InputError(f"frozen_layers={layers}: the bi-encoder has {len(blocks)} layers, and one must be trained")
    if layers:
        trained = {id(weight) for block in list(blocks)[layers:] for weight in block.parameters()}
        for weight in encoder.parameters():
            weight.requires_grad = id(weight) in trained
