"""What the bi-encoder's adaptation and the cross-encoder's training share: pairs, hard negatives, frozen layers."""

import numpy as np
import pandas as pd

from medcards import InputError
from medcards.deck.cards import relevant_answers

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
    answers : the corpus, see :func:`medcards.deck.cards.corpus`.
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
    pairs: pd.DataFrame, answers: pd.DataFrame, vectors: np.ndarray, near: np.ndarray, count: int, seed: int
) -> np.ndarray:
    """Wrong answers that lie near each question: rows of the corpus, shape (pairs, count).

    Drawn among the nearest training answers without what is right for the question (see
    :func:`medcards.deck.cards.relevant_answers`) and without near-duplicates of the right answer; a question with too few
    such neighbours gets others at random.

    Parameters
    ----------
    pairs : see :func:`training_pairs`.
    vectors : the answers' unit vectors.
    near : rows of the answers nearest to each question, shape (pairs, :data:`NEIGHBOURS` or fewer), best first.

    Raises
    ------
    InputError : the training answers are too few.
    """
    random = np.random.default_rng(seed)
    ids, training = answers.card_id.to_numpy(), (answers.split == "train").to_numpy()
    negatives = np.empty((len(pairs), count), dtype=np.int64)
    for place, (found, right) in enumerate(zip(near, relevant_answers(pairs, answers), strict=True)):
        similar = vectors @ vectors[pairs.row[place]] >= NEAR_DUPLICATE
        wrong = training & ~similar & ~np.isin(ids, list(right))
        candidates = found[wrong[found]][:HARDEST]
        if len(candidates) < count:
            others = np.setdiff1d(np.flatnonzero(wrong), candidates)
            if len(candidates) + len(others) < count:
                raise InputError(f"a training question has no {count} wrong answers: lower the parameter negatives")
            candidates = np.concatenate([candidates, random.choice(others, count - len(candidates), replace=False)])
        negatives[place] = random.choice(candidates, count, replace=False)
    return negatives


def freeze(encoder, layers: int) -> None:
    """Train only what lies in a sentence-transformers model's layers above the lowest ``layers``; 0 trains everything.

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


def ends(history: list[dict]) -> dict[str, float]:
    """Mean training loss over the first and the last tenth of a trainer's log."""
    losses = [float(entry["loss"]) for entry in history if "loss" in entry]
    tenth = max(1, len(losses) // 10)
    return {"first_loss": float(np.mean(losses[:tenth])), "last_loss": float(np.mean(losses[-tenth:]))}
