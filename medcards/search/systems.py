"""The retrieval systems: from a question to a ranking.

``bm25``           BM25 over word stems
``dense_exact``    exact search over the bi-encoder's vectors
``hnsw``           the same vectors, through the HNSW index
``hybrid``         weighted reciprocal-rank fusion of ``hnsw`` and ``bm25``
``hnsw_rerank``    the first candidates of ``hnsw`` in the cross-encoder's order
``hybrid_rerank``  the first candidates of ``hybrid``, by a weighted sum of the cosine similarity, BM25's score and the
                   cross-encoder's score, each standardised
"""

from collections.abc import Callable, Iterable
from functools import partial
from typing import Literal

import numpy as np

from medcards.base.params import Block
from medcards.base.stacked import Rows
from medcards.search.bm25 import Bm25
from medcards.search.cross_encoder import Scorer
from medcards.search.exact import exact_search, nearest
from medcards.search.rankings import RANKING_DEPTH, Ranking, reciprocal_rank_fusion, rerank
from medcards.search.vector_index import VectorIndex

RETRIEVAL_SYSTEMS = ("bm25", "dense_exact", "hnsw", "hybrid", "hnsw_rerank", "hybrid_rerank")
SERVED_SYSTEMS = ("hybrid", "hybrid_rerank")
"""The systems of which one is chosen for the users' search."""
WITH_QUESTIONS = "with_questions"
"""The served system where it searches the questions of the cards as well."""


class Served(Block):
    """What the stage rerank_eval chose on the validation questions, and the users' search uses.

    Parameters
    ----------
    bm25_weight : weight of BM25 in ``hybrid``; ``hnsw`` has the rest of 1.
    rerank_weights : weights of the cosine similarity, BM25 and the cross-encoder in ``hybrid_rerank``.
    candidates : number of answers per question that the cross-encoder scores.
    spelling : whether the spelling of a question is corrected first.
    questions : whether the questions of the cards are searched as well, see :mod:`medcards.search.question_field`.
    """

    system: Literal[SERVED_SYSTEMS]
    bm25_weight: float
    rerank_weights: list[float]
    candidates: int
    spelling: bool
    questions: bool


class Retriever:
    """All retrieval systems over one corpus.

    Parameters
    ----------
    answers : the searched texts.
    vectors : unit vectors of the answers, shape (answers, dimension).
    index : an index over the vectors.
    scorer : the cross-encoder, or None.
    """

    def __init__(self, answers: list[str], vectors: Rows, index: VectorIndex, scorer: Scorer | None = None):
        self.answers, self.vectors, self.index, self.scorer = answers, vectors, index, scorer
        self.bm25 = Bm25(answers)

    def rank(
        self,
        questions: list[str],
        vectors: np.ndarray,
        served: Served,
        systems: Iterable[str] = RETRIEVAL_SYSTEMS,
        hidden: list[set[int]] | None = None,
    ) -> dict[str, Ranking]:
        """Rank the answers with the given systems, and with the systems that these are made of.

        Parameters
        ----------
        questions : the texts of the questions.
        vectors : unit vectors of the questions, shape (questions, dimension).
        served : the weights, and the number of candidates.
        systems : names of :data:`RETRIEVAL_SYSTEMS`. The ``_rerank`` systems need the scorer.
        hidden : row numbers of the answers that each question must not find.

        Returns
        -------
        rankings, by system. With ``hybrid_rerank``, ``cross_encoder`` has its candidates and their scores, unsorted.
        """
        wanted, found = set(systems), {}
        if "dense_exact" in wanted:
            found["dense_exact"] = exact_search(vectors, self.vectors, RANKING_DEPTH, hidden)
        if wanted & {"bm25", "hybrid", "hybrid_rerank"}:
            found["bm25"] = self.bm25.search(questions, hidden=hidden)
        if wanted & {"hnsw", "hybrid", "hnsw_rerank", "hybrid_rerank"}:
            found["hnsw"] = self.index.search(vectors, RANKING_DEPTH, hidden=hidden)
        return self._combined(questions, served, wanted, found, partial(self._cosine, vectors))

    def rank_with_questions(
        self, questions: list[str], similarities: np.ndarray, served: Served, hidden: list[set[int]] | None = None
    ) -> dict[str, Ranking]:
        """Rank with the served system by other similarities than those of the answers' vectors.

        Parameters
        ----------
        similarities : of each answer, shape (questions, answers), see
            :class:`medcards.search.question_field.QuestionField`.
        hidden : row numbers of the answers that each question must not find.

        Returns
        -------
        the ranking ``with_questions``, and with ``hybrid_rerank`` its candidates as ``cross_encoder``, see
        :meth:`rank`.
        """
        depth = min(RANKING_DEPTH, similarities.shape[1])
        first = {"hnsw": nearest(similarities, depth, hidden), "bm25": self.bm25.search(questions, hidden=hidden)}
        similar = partial(np.take_along_axis, similarities, axis=1)
        found = self._combined(questions, served, {served.system}, first, similar)
        scored = {"cross_encoder": found["cross_encoder"]} if "cross_encoder" in found else {}
        return {WITH_QUESTIONS: found[served.system]} | scored

    def rank_without(
        self, questions: list[str], vectors: np.ndarray, served: Served, hidden: list[set[int]]
    ) -> dict[str, Ranking]:
        """Rank with ``hybrid`` as if the deck lacked some answers. Exact search stands in for ``hnsw``.

        Parameters
        ----------
        hidden : row numbers of the answers that the deck lacks, by question.
        """
        found = {
            "hnsw": exact_search(vectors, self.vectors, RANKING_DEPTH, hidden),
            "bm25": self.bm25.search(questions, hidden=hidden),
        }
        return self._combined(questions, served, {"hybrid"}, found, partial(self._cosine, vectors))

    def _combined(
        self,
        questions: list[str],
        served: Served,
        wanted: set[str],
        found: dict[str, Ranking],
        similar: Callable[[np.ndarray], np.ndarray],
    ) -> dict[str, Ranking]:
        """The rankings of ``found``, and those of the wanted systems that are made of them.

        Parameters
        ----------
        similar : from rows of the corpus, shape (questions, answers), to their similarities.
        """
        if wanted & {"hybrid", "hybrid_rerank"}:
            found["hybrid"] = hybrid(found["hnsw"], found["bm25"], served.bm25_weight)
        if "hnsw_rerank" in wanted:
            relevance = self.relevance(questions, found["hnsw"][0][:, : served.candidates])
            found["hnsw_rerank"] = rerank(found["hnsw"], [relevance])
        if "hybrid_rerank" in wanted:
            candidates = found["hybrid"][0][:, : served.candidates]
            scores = [similar(candidates), *self._text_scores(questions, candidates)]
            found["hybrid_rerank"] = rerank(found["hybrid"], scores, served.rerank_weights)
            found["cross_encoder"] = candidates, scores[2]
        return {system: found[system] for system in (*RETRIEVAL_SYSTEMS, "cross_encoder") if system in found}

    def scores(self, questions: list[str], vectors: np.ndarray, rows: np.ndarray) -> list[np.ndarray]:
        """The scores that candidates are re-ranked by: cosine similarity, BM25's score, the cross-encoder's score.

        Parameters
        ----------
        rows : the candidates, shape (questions, candidates); -1 where the first stage found fewer answers.

        Returns
        -------
        three arrays of the shape of ``rows``.
        """
        return [self._cosine(vectors, rows), *self._text_scores(questions, rows)]

    def _cosine(self, vectors: np.ndarray, rows: np.ndarray) -> np.ndarray:
        return np.einsum("qd,qcd->qc", vectors, self.vectors[rows])

    def _text_scores(self, questions: list[str], rows: np.ndarray) -> list[np.ndarray]:
        return [self.bm25.scores(questions, rows), self.relevance(questions, rows)]

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
