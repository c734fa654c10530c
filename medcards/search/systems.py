"""From a question to a ranking.

A ranking is a pair of arrays of shape (questions, depth): row numbers of the corpus, best first, and their scores.
Row -1 stands for nothing: the system found fewer answers.

``bm25``           words, stemmed
``dense_exact``    the bi-encoder's vectors, all compared
``hnsw``           the same, through the index
``hybrid``         reciprocal-rank fusion of ``hnsw`` and ``bm25``, weighted
``hnsw_rerank``    the first candidates of ``hnsw`` in the cross-encoder's order, as published set-ups do it
``hybrid_rerank``  the first candidates of ``hybrid``, by a weighted sum of the cosine similarity, BM25's score and the
                   cross-encoder's, each standardised
"""

from collections.abc import Callable, Iterable
from typing import Literal

import numpy as np

from medcards.base.params import Block
from medcards.search.index import HnswIndex, exact_search, largest

DEPTH = 50  # as deep as recall is measured
SYSTEMS = ("bm25", "dense_exact", "hnsw", "hybrid", "hnsw_rerank", "hybrid_rerank")
SERVED = ("hybrid", "hybrid_rerank")  # one of these is what users search with
RRF_K = 60  # the constant of Cormack, Clarke and Buettcher (2009)

Ranking = tuple[np.ndarray, np.ndarray]
Scorer = Callable[[list[tuple[str, str]]], np.ndarray]
"""From (question, answer) pairs to relevance scores, higher is better; see :func:`medcards.search.cross_encoder.load_scorer`."""


class Served(Block):
    """What rerank_eval chose on the validation questions, and the shell's search uses."""

    system: Literal[SERVED]
    bm25_weight: float  # in hybrid; what is left is the weight of hnsw
    rerank_weights: list[float]  # of cosine similarity, BM25 and cross-encoder in hybrid_rerank
    candidates: int


class Bm25:
    """BM25 (Lucene's variant, k1 1.5, b 0.75) over stemmed words, English stop words left out; library: bm25s."""

    def __init__(self, answers: list[str]):
        import bm25s

        self._index, self._answers = bm25s.BM25(), len(answers)
        self._index.index(_stems(answers), show_progress=False)

    def search(self, questions: list[str], depth: int = DEPTH) -> Ranking:
        """The best answers of each question; an answer that shares no word with it is not found."""
        found = [self._best(words, depth) for words in _stems(questions)]
        return _padded(found, min(depth, self._answers))

    def scores(self, questions: list[str], rows: np.ndarray) -> np.ndarray:
        """The scores of given answers: ``rows`` and what comes back have shape (questions, answers)."""
        return np.array([self._scores(words)[found] for words, found in zip(_stems(questions), rows, strict=True)])

    def _scores(self, words: list[str]) -> np.ndarray:
        known = [word for word in words if word in self._index.vocab_dict]
        return self._index.get_scores(known) if known else np.zeros(self._answers)

    def _best(self, words: list[str], depth: int) -> list[tuple[int, float]]:
        scores = self._scores(words)
        return [(int(row), float(scores[row])) for row in largest(scores, depth) if scores[row] > 0]


def _stems(texts: list[str]) -> list[list[str]]:
    import bm25s
    import Stemmer

    stemmer = Stemmer.Stemmer("english")
    return bm25s.tokenize(texts, stopwords="en", stemmer=stemmer, return_ids=False, show_progress=False)


def _padded(found: list[list[tuple[int, float]]], depth: int) -> Ranking:
    """Lists of (row, score) as a ranking."""
    rows, scores = np.full((len(found), depth), -1, dtype=np.int64), np.full((len(found), depth), np.nan)
    for place, pairs in enumerate(found):
        for rank, (row, score) in enumerate(pairs[:depth]):
            rows[place, rank], scores[place, rank] = row, score
    return rows, scores


def reciprocal_rank_fusion(rankings: Iterable[Ranking], weights: Iterable[float], depth: int = DEPTH) -> Ranking:
    """Fuse rankings: an answer scores the weighted sum of ``1 / (60 + rank)`` over the rankings that found it.

    Source: Cormack, Clarke and Buettcher, Reciprocal Rank Fusion Outperforms Condorcet and Individual Rank Learning
    Methods, SIGIR 2009. A ranking of weight 0 brings no answers in. Ties keep the order of the first ranking.

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
    """Order the first candidates of each question anew.

    What lies deeper is not scored and keeps its place. The right answer is never forced among the candidates.

    Parameters
    ----------
    ranking : the first stage's.
    scores : arrays of shape (questions, candidates), what the first candidates are scored by.
    weights : of these scores in a sum, each standardised over a question's candidates.
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
    """Scores of each question's found answers with mean 0 and standard deviation 1."""
    there = np.ma.masked_array(scores, rows < 0)
    spread = there.std(axis=1, keepdims=True)
    return ((there - there.mean(axis=1, keepdims=True)) / np.ma.where(spread > 0, spread, 1)).filled(np.nan)


def remembering(scorer: Scorer) -> Scorer:
    """The same scorer, which scores no pair twice: systems and choices share most of their candidates."""
    known: dict[tuple[str, str], float] = {}

    def score(pairs: list[tuple[str, str]]) -> np.ndarray:
        new = [pair for pair in dict.fromkeys(pairs) if pair not in known]
        if new:
            known.update(zip(new, np.asarray(scorer(new), dtype=np.float64).tolist(), strict=True))
        return np.array([known[pair] for pair in pairs])

    return score


class Retriever:
    """All systems over one corpus.

    Parameters
    ----------
    answers : the texts that are searched.
    vectors : their unit vectors.
    index : the index over them.
    scorer : the cross-encoder, or None.
    """

    def __init__(self, answers: list[str], vectors: np.ndarray, index: HnswIndex, scorer: Scorer | None = None):
        self.answers, self.vectors, self.index, self.scorer = answers, vectors, index, scorer
        self.bm25 = Bm25(answers)

    def rank(
        self, questions: list[str], vectors: np.ndarray, served: Served, systems: Iterable[str] = SYSTEMS
    ) -> dict[str, Ranking]:
        """The rankings of the systems named, and of those that they are made of; re-ranked ones need the scorer.

        Parameters
        ----------
        questions, vectors : the questions' texts and unit vectors.
        served : weights, and how many candidates are re-ranked.
        """
        wanted, found = set(systems), {}
        if "dense_exact" in wanted:
            found["dense_exact"] = exact_search(vectors, self.vectors, DEPTH)
        if wanted & {"bm25", "hybrid", "hybrid_rerank"}:
            found["bm25"] = self.bm25.search(questions)
        if wanted & {"hnsw", "hybrid", "hnsw_rerank", "hybrid_rerank"}:
            found["hnsw"] = self.index.search(vectors, DEPTH)
        if wanted & {"hybrid", "hybrid_rerank"}:
            found["hybrid"] = hybrid(found["hnsw"], found["bm25"], served.bm25_weight)
        if "hnsw_rerank" in wanted:
            relevance = self.relevance(questions, found["hnsw"][0][:, : served.candidates])
            found["hnsw_rerank"] = rerank(found["hnsw"], [relevance])
        if "hybrid_rerank" in wanted:
            scores = self.scores(questions, vectors, found["hybrid"][0][:, : served.candidates])
            found["hybrid_rerank"] = rerank(found["hybrid"], scores, served.rerank_weights)
        return {system: found[system] for system in SYSTEMS if system in found}

    def scores(self, questions: list[str], vectors: np.ndarray, rows: np.ndarray) -> list[np.ndarray]:
        """What each question's candidates are re-ranked by: cosine similarity, BM25's score, the cross-encoder's.

        ``rows`` has shape (questions, candidates), with -1 where the first stage found nothing.
        """
        cosine = np.einsum("qd,qcd->qc", vectors, self.vectors[rows])
        return [cosine, self.bm25.scores(questions, rows), self.relevance(questions, rows)]

    def relevance(self, questions: list[str], rows: np.ndarray) -> np.ndarray:
        """The cross-encoder's scores of each question's candidates."""
        places, ranks = np.nonzero(rows >= 0)
        scores = np.zeros(rows.shape)
        if len(places):
            pairs = [
                (questions[place], self.answers[rows[place, rank]]) for place, rank in zip(places, ranks, strict=True)
            ]
            scores[places, ranks] = self.scorer(pairs)
        return scores


def hybrid(dense: Ranking, words: Ranking, bm25_weight: float) -> Ranking:
    """The fusion of a dense ranking and BM25's; a weight of 0 is the dense one alone, 1 is BM25 alone."""
    return reciprocal_rank_fusion([dense, words], [1 - bm25_weight, bm25_weight])
