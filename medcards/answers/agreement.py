"""Whether the scores agree with the authors, who judged a sample of answers against their references."""

import numpy as np
import pandas as pd

from medcards.answers.comparison import OPEN
from medcards.answers.scores import TermWeights, answer_scores
from medcards.base.stats import Bootstrap

JUDGEMENTS = {"wrong": 0, "partly right": 1, "right": 2}
"""What an answer is judged, in rising order."""


def reader_agreement(judged: pd.DataFrame, weights: TermWeights, encoder, seed: int) -> dict[str, dict[str, dict]]:
    """Kendall's tau-b of every score with the judgements, with its 95% interval over cards.

    Parameters
    ----------
    judged : docs/judged_answers.csv: card_id, system, question, reference, answer and judgement, of :data:`JUDGEMENTS`.
    encoder : the bi-encoder that compares an answer with its reference.

    Returns
    -------
    ``{answers: {score: {"mean", "lo", "hi", "n"}}}`` of all answers, ``all``, and of those that do not hold the answer
    of the deck, ``without_open_book``. A score that is equal for all these answers is left out.
    """
    one = {"answers": [{"judged": answer} for answer in judged.answer.fillna("")], "nll": [{}] * len(judged)}
    scores = answer_scores(judged.assign(**one), weights, encoder)["judged"]
    order = judged.judgement.map(JUDGEMENTS)
    return {
        name: _taus(scores[shown], order[shown], judged.card_id[shown], seed)
        for name, shown in (("all", order.notna()), ("without_open_book", ~judged.system.isin(OPEN)))
    }


def _taus(scores: pd.DataFrame, order: pd.Series, cards: pd.Series, seed: int) -> dict[str, dict]:
    found = {}
    for name, values in scores.items():
        has = values.notna()
        if values[has].nunique() > 1:
            found[name] = kendall_tau(values[has].to_numpy(), order[has].to_numpy(), Bootstrap(cards[has], seed))
    return found


def kendall_tau(one: np.ndarray, other: np.ndarray, bootstrap: Bootstrap) -> dict[str, float]:
    """Kendall's tau-b of two orders of the same rows, with its percentile interval.

    Tau-b is the number of pairs of rows that both order alike, less those that they order differently, over the
    geometric mean of the numbers of pairs that each orders (Kendall, The Treatment of Ties in Ranking Problems,
    Biometrika, 1945). A resample holds a row several times or never; a row is tied with itself. The tau of a resample
    whose rows are all equal in one order is 0, because that order tells nothing.

    Parameters
    ----------
    one, other : shape (rows,).
    bootstrap : of the rows.

    Examples
    --------
    >>> kendall_tau(np.array([0.1, 0.5, 0.9]), np.array([0, 1, 2]), Bootstrap(["a", "a", "a"], seed=0))
    {'mean': 1.0, 'lo': 1.0, 'hi': 1.0, 'n': 3}
    """
    signs = [np.sign(values[:, None] - values) for values in (one.astype(float), other.astype(float))]
    products = [signs[0] * signs[1], signs[0] ** 2, signs[1] ** 2]

    def tau(counts: np.ndarray) -> np.ndarray:
        alike, first, second = (((counts @ product) * counts).sum(axis=1) for product in products)
        return alike / np.sqrt(np.maximum(first * second, 1))  # where it is 0, so is the number above it

    return bootstrap.statistic(tau)
