"""Rows: the cards that a language model is trained and validated on, with the context of the training cards."""

import numpy as np
import pandas as pd
from pydantic import Field, PositiveInt

from medcards.base.params import Block
from medcards.deck.cards import sample
from medcards.search.context import nearest_training_cards
from medcards.search.vectors import Vectors

ROW_COLUMNS = ["card_id", "question", "answer", "group", "context"]


class RowsParams(Block):
    """The cards that a language model is trained and validated on, see params.yaml."""

    train_cards: PositiveInt
    validation_cards: PositiveInt
    context_share: float = Field(ge=0, le=1)
    context_cards: PositiveInt


def rows_with_context(
    cards: pd.DataFrame, vectors: Vectors, params: RowsParams, seed: int
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Sample training and validation cards, and choose the context of a share of the training cards.

    Parameters
    ----------
    cards : the deck, with a ``split`` column.
    vectors : vectors of the deck's questions.

    Returns
    -------
    training and validation rows: ``card_id``, ``question``, ``answer``, ``group``, and ``context``, a list of texts. A
    seeded share ``params.context_share`` of the training rows has the nearest training cards as context. All other rows
    have an empty list.
    """
    train = sample(cards, "train", params.train_cards, seed)
    validation = sample(cards, "validation", params.validation_cards, seed)
    chosen = np.random.default_rng(seed).permutation(len(train))[: round(params.context_share * len(train))]
    context: list[list[str]] = [[] for _ in range(len(train))]
    found = nearest_training_cards(train.iloc[chosen], cards[cards.split == "train"], vectors, params.context_cards)
    for place, texts in zip(chosen, found, strict=True):
        context[place] = texts
    empty: list[list[str]] = [[] for _ in range(len(validation))]
    return train.assign(context=context)[ROW_COLUMNS], validation.assign(context=empty)[ROW_COLUMNS]
