"""Rankings, and what can be done with them.

A ranking is a pair of arrays of shape (questions, depth): row numbers of the corpus, best first, and their scores.
Row -1 means that fewer answers were found.
"""

from collections.abc import Iterable
from pathlib import Path

import numpy as np

RANKING_DEPTH = 50
"""Number of answers in a ranking: the largest depth at which recall is measured."""
RRF_K = 60
"""The constant of reciprocal-rank fusion (Cormack, Clarke and Buettcher, 2009)."""

Ranking = tuple[np.ndarray, np.ndarray]


def rankings_file(folder: Path, split: str, query_set: str) -> Path:
    """The file with the rankings of a query set.

    >>> rankings_file(Path("data/rankings"), "test", "own").as_posix()
    'data/rankings/test-own.parquet'
    """
    return folder / f"{split}-{query_set}.parquet"


def padded(found: list[list[tuple[int, float]]], depth: int) -> Ranking:
    """Lists of (row, score) as a ranking."""
    rows, scores = np.full((len(found), depth), -1, dtype=np.int64), np.full((len(found), depth), np.nan)
    for place, pairs in enumerate(found):
        for rank, (row, score) in enumerate(pairs[:depth]):
            rows[place, rank], scores[place, rank] = row, score
    return rows, scores


def reciprocal_rank_fusion(
    rankings: Iterable[Ranking], weights: Iterable[float], depth: int = RANKING_DEPTH
) -> Ranking:
    """Fuse rankings. The score of an answer is the weighted sum of ``1 / (60 + rank)`` over the rankings that found it.

    A ranking of weight 0 adds no answers. Ties are in the order of the first ranking.
    Source: Cormack, Clarke and Buettcher, Reciprocal Rank Fusion Outperforms Condorcet and Individual Rank Learning
    Methods, SIGIR 2009.

    Examples
    --------
    >>> one, other = (np.array([[3, 1, 2]]), None), (np.array([[1, 4, -1]]), None)
    >>> reciprocal_rank_fusion([one, other], [0.5, 0.5], depth=4)[0].tolist()
    [[1, 3, 4, 2]]
    """
    used = [(rows, weight) for (rows, _), weight in zip(rankings, weights, strict=True) if weight > 0]
    found = []
    for place in range(len(used[0][0])):
        scores: dict[int, float] = {}
        for rows, weight in used:
            for rank, row in enumerate(rows[place].tolist(), start=1):
                if row >= 0:
                    scores[row] = scores.get(row, 0.0) + weight / (RRF_K + rank)
        found.append(sorted(scores.items(), key=lambda pair: -pair[1]))
    return padded(found, depth)


def rerank(ranking: Ranking, scores: list[np.ndarray], weights: Iterable[float] = (1.0,)) -> Ranking:
    """Order the first candidates of each question by other scores.

    Answers below the candidates keep their places and have no score (NaN). The right answer is never added to the
    candidates.

    Parameters
    ----------
    ranking : the ranking of the first stage.
    scores : arrays of shape (questions, candidates), one per score.
    weights : weight of each score in the sum. Each score is standardised over a question's candidates.
    """
    candidates = scores[0].shape[1]
    rows, deeper = ranking[0][:, :candidates], ranking[0][:, candidates:]
    total = sum(weight * _standardised(one, rows) for one, weight in zip(scores, weights, strict=True))
    order = np.argsort(-np.where(rows >= 0, total, -np.inf), axis=1, kind="stable")
    return (
        np.hstack([np.take_along_axis(rows, order, axis=1), deeper]),
        np.hstack([np.take_along_axis(total, order, axis=1), np.full(deeper.shape, np.nan)]),
    )


def _standardised(scores: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Scores with mean 0 and standard deviation 1 over the found answers of each question."""
    there = np.ma.masked_array(scores, rows < 0)
    spread = there.std(axis=1, keepdims=True)
    return ((there - there.mean(axis=1, keepdims=True)) / np.ma.where(spread > 0, spread, 1)).filled(np.nan)
