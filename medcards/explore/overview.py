"""The map of the deck, and the agreement of clusters and topics with the source's own classes."""

from typing import Annotated

import numpy as np
import pandas as pd
from pydantic import Field, PositiveInt

from medcards.base.params import Block
from medcards.explore.clusters import agreement, tsne_map

PERPLEXITY = 30.0
"""Effective number of neighbours in the t-SNE map."""


class EdaParams(Block):
    """The block ``eda`` of params.yaml."""

    clusters: list[Annotated[int, Field(ge=2)]] = Field(min_length=1)
    topics: list[Annotated[int, Field(ge=2)]] = Field(min_length=1)
    min_document_frequency: PositiveInt
    tsne_sample: PositiveInt


def branch_agreement(cards: pd.DataFrame, labels: dict[str, np.ndarray], seed: int) -> dict[str, dict[str, float]]:
    """The agreement of each labelling with the branches of the ontology, see :func:`agreement`.

    Parameters
    ----------
    cards : the corpus, with its column ``branch``.
    labels : the label of each card, by the name of the method.

    Returns
    -------
    intervals by method; empty where no card has a branch.
    """
    if not (cards.branch != "").any():
        return {}
    return {name: agreement(found, cards.branch, cards.group, seed) for name, found in labels.items()}


def map_points(labelled: pd.DataFrame, vectors: np.ndarray, sample_size: int, seed: int) -> pd.DataFrame:
    """A t-SNE map of a seeded sample of the cards.

    Parameters
    ----------
    labelled : table with one row per card.
    vectors : unit vectors of the cards, shape (cards, dimension).
    sample_size : the largest number of cards on the map.

    Returns
    -------
    the rows of the sample, in the order of the table, with their coordinates ``x`` and ``y``.
    """
    drawn = np.sort(np.random.default_rng(seed).permutation(len(vectors))[:sample_size])
    points = labelled.iloc[drawn].reset_index(drop=True)
    points[["x", "y"]] = tsne_map(vectors[drawn], PERPLEXITY, seed).round(3)
    return points
