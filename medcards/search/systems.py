"""The retrieval systems: from a question to a ranking.

A ranking is a pair of arrays of shape (questions, depth): row numbers of the corpus, best first, and their scores.
Row -1 means that the system found fewer answers.

``bm25``           BM25 over word stems
``dense_exact``    exact search over the bi-encoder's vectors
``hnsw``           the same vectors, through the HNSW index
``hybrid``         weighted reciprocal-rank fusion of ``hnsw`` and ``bm25``
``hnsw_rerank``    the first candidates of ``hnsw`` in the cross-encoder's order
``hybrid_rerank``  the first candidates of ``hybrid``, by a weighted sum of the cosine similarity, BM25's score and the
                   cross-encoder's score, each standardised
"""

from collections.abc import Iterable
from typing import Literal

import numpy as np

from medcards.base.params import Block
from medcards.deck.words import stems
from medcards.search.cross_encoder import Scorer
from medcards.search.exact import exact_search, largest
from medcards.search.index import HnswIndex

RANKING_DEPTH = 50
"""Number of answers in a ranking: the largest depth at which recall is measured."""
RETRIEVAL_SYSTEMS = ("bm25", "dense_exact", "hnsw", "hybrid", "hnsw_rerank", "hybrid_rerank")
SERVED_SYSTEMS = ("hybrid", "hybrid_rerank")
"""The systems of which one is chosen for the users' search."""
RRF_K = 60
"""The constant of reciprocal-rank fusion (Cormack, Clarke and Buettcher, 2009)."""

Ranking = tuple[np.ndarray, np.ndarray]


class Served(Block):
    """What the stage rerank_eval chose on the validation questions, and the users' search uses.

    Parameters
    ----------
    bm25_weight : weight of BM25 in ``hybrid``; ``hnsw`` has the rest of 1.
    rerank_weights : weights of the cosine similarity, BM25 and the cross-encoder in ``hybrid_rerank``.
    candidates : number of answers per question that the cross-encoder scores.
    """

    system: Literal[SERVED_SYSTEMS]
    bm25_weight: float
    rerank_weights: list[float]
    candidates: int


class Bm25:
    """BM25 (Lucene's variant, k1 1.5, b 0.75) over word stems without English stop words (library: bm25s)."""

    def __init__(self, answers: list[str]):
        import bm25s

        self._index, self._answers, words = bm25s.BM25(), len(answers), stems(answers)
        self._index.index(words if any(words) else [["\0"]], show_progress=False)  # bm25s needs a word

    def search(self, questions: list[str], depth: int = RANKING_DEPTH) -> Ranking:
        """Rank the answers for each question. An answer that shares no stem with the question is not found."""
        found = [self._best(words, depth) for words in stems(questions)]
        return _padded(found, min(depth, self._answers))

    def scores(self, questions: list[str], rows: np.ndarray) -> np.ndarray:
        """Score given answers.

        Parameters
        ----------
        rows : row numbers of the corpus, shape (questions, answers).

        Returns
        -------
        scores of the same shape.
        """
        return np.array([self._scores(words)[found] for words, found in zip(stems(questions), rows, strict=True)])

    def _scores(self, words: list[str]) -> np.ndarray:
        known = [word for word in words if word in self._index.vocab_dict]
        return self._index.get_scores(known) if known else np.zeros(self._answers)

    def _best(self, words: list[str], depth: int) -> list[tuple[int, float]]:
        scores = self._scores(words)
        return [(int(row), float(scores[row])) for row in largest(scores, depth) if scores[row] > 0]


def _padded(found: list[list[tuple[int, float]]], depth: int) -> Ranking:
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
    return _padded(found, depth)


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


class Retriever:
    """All retrieval systems over one corpus.

    Parameters
    ----------
    answers : the searched texts.
    vectors : unit vectors of the answers, shape (answers, dimension).
    index : the HNSW index over the vectors.
    scorer : the cross-encoder, or None.
    """

    def __init__(self, answers: list[str], vectors: np.ndarray, index: HnswIndex, scorer: Scorer | None = None):
        self.answers, self.vectors, self.index, self.scorer = answers, vectors, index, scorer
        self.bm25 = Bm25(answers)

    def rank(
        self, questions: list[str], vectors: np.ndarray, served: Served, systems: Iterable[str] = RETRIEVAL_SYSTEMS
    ) -> dict[str, Ranking]:
        """Rank the answers with the given systems, and with the systems that these are made of.

        Parameters
        ----------
        questions : the texts of the questions.
        vectors : unit vectors of the questions, shape (questions, dimension).
        served : the weights, and the number of candidates.
        systems : names of :data:`RETRIEVAL_SYSTEMS`. The ``_rerank`` systems need the scorer.

        Returns
        -------
        rankings, by system.
        """
        wanted, found = set(systems), {}
        if "dense_exact" in wanted:
            found["dense_exact"] = exact_search(vectors, self.vectors, RANKING_DEPTH)
        if wanted & {"bm25", "hybrid", "hybrid_rerank"}:
            found["bm25"] = self.bm25.search(questions)
        if wanted & {"hnsw", "hybrid", "hnsw_rerank", "hybrid_rerank"}:
            found["hnsw"] = self.index.search(vectors, RANKING_DEPTH)
        if wanted & {"hybrid", "hybrid_rerank"}:
            found["hybrid"] = hybrid(found["hnsw"], found["bm25"], served.bm25_weight)
        if "hnsw_rerank" in wanted:
            relevance = self.relevance(questions, found["hnsw"][0][:, : served.candidates])
            found["hnsw_rerank"] = rerank(found["hnsw"], [relevance])
        if "hybrid_rerank" in wanted:
            scores = self.scores(questions, vectors, found["hybrid"][0][:, : served.candidates])
            found["hybrid_rerank"] = rerank(found["hybrid"], scores, served.rerank_weights)
        return {system: found[system] for system in RETRIEVAL_SYSTEMS if system in found}

    def scores(self, questions: list[str], vectors: np.ndarray, rows: np.ndarray) -> list[np.ndarray]:
        """The scores that candidates are re-ranked by: cosine similarity, BM25's score, the cross-encoder's score.

        Parameters
        ----------
        rows : the candidates, shape (questions, candidates); -1 where the first stage found fewer answers.

        Returns
        -------
        three arrays of the shape of ``rows``.
        """
        cosine = np.einsum("qd,qcd->qc", vectors, self.vectors[rows])
        return [cosine, self.bm25.scores(questions, rows), self.relevance(questions, rows)]

    def relevance(self, questions: list[str], rows: np.ndarray) -> np.ndarray:
        """The cross-encoder's scores of the candidates ``rows``, 0 where a row is -1."""
        places, ranks = np.nonzero(rows >= 0)
        scores = np.zeros(rows.shape)
        if len(places):
            pairs = [
                (questions[place], self.answers[rows[place, rank]]) for place, rank in zip(places, ranks, strict=True)
            ]
            scores[places, ranks] = self.scorer(pairs)
        return scores


def hybrid(dense: Ranking, bm25: Ranking, bm25_weight: float) -> Ranking:
    """Fuse a dense ranking and one of BM25. With a weight of 0 the dense ranking stands alone, with 1 that of BM25."""
    return reciprocal_rank_fusion([dense, bm25], [1 - bm25_weight, bm25_weight])
