"""Which cards must stay together, and the split by those groups."""

import numpy as np
import pandas as pd
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from medcards import InputError
from medcards.cards import SPLITS, normalise


def group_cards(cards: pd.DataFrame) -> pd.Series:
    """The group of each card: connected components of equal question, equal answer or equal concept.

    Equal means equal after :func:`medcards.cards.normalise`. A group is named after its smallest concept, or after
    its smallest card id where the source names no concept.
    """
    own_name = cards.concept.where(cards.concept != "", cards.card_id)
    n, rows, columns = len(cards), [], []
    for key in (cards.question.map(normalise), cards.answer.map(normalise), own_name):
        rows.append(np.arange(n))
        columns.append(pd.factorize(key)[0].astype(np.int64) + n * (1 + len(columns)))
    edges = (np.ones(n * len(rows)), (np.concatenate(rows), np.concatenate(columns)))
    size = n * (1 + len(columns))
    _, component = connected_components(coo_array(edges, shape=(size, size)), directed=False)
    return own_name.groupby(component[:n]).transform("min")


def draw_groups(cards: pd.DataFrame, max_cards: int, seed: int) -> pd.DataFrame:
    """A seeded sample of whole groups with at most ``max_cards`` cards, in the order of the table."""
    sizes = cards.group.value_counts().sort_index()
    sizes = sizes.iloc[np.random.default_rng(seed).permutation(len(sizes))]
    kept = sizes.index[sizes.cumsum() <= max_cards]
    return cards[cards.group.isin(kept)].reset_index(drop=True)


def split_by_group(groups: pd.Series, validation_share: float, test_share: float, seed: int) -> pd.Series:
    """Assign whole groups to ``train``, ``validation`` and ``test``.

    The groups are shuffled, then dealt out until each split has its share of the cards.

    Parameters
    ----------
    groups : the group of each card.
    validation_share, test_share : shares of the cards, between 0 and 1.

    Raises
    ------
    InputError : a split would get no group.
    """
    sizes = groups.value_counts().sort_index()
    order = np.random.default_rng(seed).permutation(len(sizes))
    midpoint = np.cumsum(sizes.to_numpy()[order]) - sizes.to_numpy()[order] / 2
    bounds = len(groups) * np.cumsum([test_share, validation_share])
    names = np.array(["test", "validation", "train"])[np.searchsorted(bounds, midpoint)]
    split = groups.map(pd.Series(names, index=sizes.index[order]))
    if missing := [name for name in SPLITS if not (split == name).any()]:
        raise InputError(
            f"the deck is too small to split: {len(groups)} cards in {len(sizes)} groups leave '{missing[0]}' empty; "
            "add cards (prepare.max_cards=0 keeps all), or raise prepare.validation_share and prepare.test_share"
        )
    return split
