"""Context: the training cards that a language model reads before a question."""

import numpy as np
import pandas as pd

from medcards.search.exact import largest
from medcards.search.vectors import Vectors


def nearest_training_cards(asked: pd.DataFrame, train: pd.DataFrame, vectors: Vectors, count: int) -> list[list[str]]:
    """Answers of the training cards whose questions are nearest to each asked card's question, nearest first.

    A card of the asked card's own group is never among them, because its text may hold the answer.

    Parameters
    ----------
    asked : cards that ask.
    train : cards that may be read.
    vectors : vectors of the deck's questions.
    count : number of cards for each question, at most.
    """
    of_train, groups = vectors.questions_of(train.card_id), train.group.to_numpy()
    texts = train.answer.tolist()
    found = []
    for vector, group in zip(vectors.questions_of(asked.card_id), asked.group, strict=True):
        scores = np.where(groups == group, -np.inf, of_train @ vector)
        found.append([texts[place] for place in largest(scores, count) if np.isfinite(scores[place])])
    return found
