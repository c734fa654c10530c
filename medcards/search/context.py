"""Which cards a language model may read before it answers."""

import numpy as np
import pandas as pd

from medcards.search.encoder import Embeddings
from medcards.search.index import largest


def nearest_training_cards(
    asked: pd.DataFrame, train: pd.DataFrame, embeddings: Embeddings, count: int
) -> list[list[str]]:
    """Question and answer of the training cards whose questions lie nearest to each asked card's, nearest first.

    Never the card itself, nor one of its group, which would give the answer away.

    Parameters
    ----------
    asked, train : cards, of which ``train`` are those that may be read.
    """
    vectors, groups = embeddings.questions_of(train.card_id), train.group.to_numpy()
    texts = (train.question + " " + train.answer).to_numpy()
    found = []
    for vector, group in zip(embeddings.questions_of(asked.card_id), asked.group, strict=True):
        scores = np.where(groups == group, -np.inf, vectors @ vector)
        found.append([texts[place] for place in largest(scores, count) if np.isfinite(scores[place])])
    return found
