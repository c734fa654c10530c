"""Rows: the cards that a language model is trained and validated on, with the context of the training cards."""

import numpy as np
import pandas as pd
from pydantic import Field, PositiveInt

from medcards import InputError
from medcards.base.params import Block
from medcards.deck.cards import sample
from medcards.search.context import nearest_training_cards
from medcards.search.vectors import Vectors

ROW_COLUMNS = ["card_id", "question", "answer", "group", "context"]


class RowsParams(Block):
    """The cards that a language model is trained and validated on, see params.yaml."""

    query_sets: list[str] = Field(min_length=1)
    train_cards: PositiveInt
    validation_cards: PositiveInt
    context_share: float = Field(ge=0, le=1)
    context_cards: PositiveInt


def rows_with_context(
    cards: pd.DataFrame, vectors: Vectors, params: RowsParams, seed: int
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Sample training and validation cards, and choose the context of a share of the training cards.

    The training cards are of ``params.query_sets``. The validation cards are the deck's own, as the cards are that
    the answering systems are asked.

    Parameters
    ----------
    cards : the deck, with a ``split`` column.
    vectors : vectors of the deck's questions.

    Returns
    -------
    training and validation rows: ``card_id``, ``question``, ``answer``, ``group``, and ``context``, a list of texts. A
    seeded share ``params.context_share`` of the training rows has the nearest training cards as context. All other rows
    have an empty list.

    Raises
    ------
    InputError : a name of ``params.query_sets`` is that of no training card.
    """
    known = cards.query_set[cards.split == "train"].unique()
    if unknown := [name for name in params.query_sets if name not in known]:
        raise InputError(f"rows.query_sets: no training card is of {unknown[0]}; the deck has: {', '.join(known)}")
    train = sample(cards[cards.query_set.isin(params.query_sets)], "train", params.train_cards, seed)
    validation = sample(cards, "validation", params.validation_cards, seed, "own")
    chosen = np.random.default_rng(seed).permutation(len(train))[: round(params.context_share * len(train))]
    context: list[list[str]] = [[] for _ in range(len(train))]
    found = nearest_training_cards(train.iloc[chosen], cards[cards.split == "train"], vectors, params.context_cards)
    for place, texts in zip(chosen, found, strict=True):
        context[place] = texts
    empty: list[list[str]] = [[] for _ in range(len(validation))]
    return train.assign(context=context)[ROW_COLUMNS], validation.assign(context=empty)[ROW_COLUMNS]
