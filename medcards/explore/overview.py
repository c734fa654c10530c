"""The map of the deck, and the agreement of clusters and topics with the source's own classes."""

from functools import partial
from typing import Annotated

import numpy as np
import pandas as pd
from pydantic import Field, PositiveInt

from medcards.base.parallel import side_by_side
from medcards.base.params import Block
from medcards.explore.clusters import agreement, tsne_map

PERPLEXITY = 30.0
"""Effective number of neighbours in the t-SNE map."""


class EdaParams(Block):
    """The block ``eda`` of params.yaml."""

    clusters: list[Annotated[int, Field(ge=2)]] = Field(min_length=1)
    topics: list[Annotated[int, Field(ge=2)]] = Field(min_length=1)
    seeds: PositiveInt
    min_document_frequency: PositiveInt
    tsne_sample: PositiveInt


def map_and_agreement(
    cards: pd.DataFrame, vectors: np.ndarray, labels: dict[str, np.ndarray], sample_size: int, seed: int
) -> tuple[pd.DataFrame, dict[str, dict[str, float]]]:
    """A t-SNE map of a seeded sample of the cards, and the agreement of labels with the branches of the ontology.

    Parameters
    ----------
    cards : the corpus, with its column ``branch``.
    vectors : unit vectors of the cards, shape (cards, dimension).
    labels : the label of each card, by the name of the method.
    sample_size : the largest number of cards on the map.

    Returns
    -------
    points : ``card_id``, ``x`` and ``y`` of the sample, in the order of the cards.
    agreements : :func:`medcards.explore.clusters.agreement` by method; empty where no card has a branch.
    """
    drawn = np.sort(np.random.default_rng(seed).permutation(len(vectors))[:sample_size])
    named = labels if (cards.branch != "").any() else {}
    branch, group = cards.branch.reset_index(drop=True), cards.group.to_numpy()
    calls = [partial(tsne_map, vectors[drawn], PERPLEXITY, seed)]
    calls += [partial(agreement, found, branch, group, seed) for found in named.values()]
    coordinates, *agreements = side_by_side(calls, "map and agreement")
    points = pd.DataFrame(coordinates.round(3), columns=["x", "y"])
    points.insert(0, "card_id", cards.card_id.to_numpy()[drawn])
    return points, dict(zip(named, agreements, strict=True))
