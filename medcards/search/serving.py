"""The choice of the system that is served and of its weights, on the validation questions.

The deck's own questions and those of its other query sets choose together, because users ask in both ways. Perturbed
questions choose nothing.
"""

from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from medcards.base.manifests import pinned_model, read_manifest
from medcards.base.references import resolve
from medcards.base.stats import Bootstrap
from medcards.search.bm25 import Bm25
from medcards.search.encoder import TextEncoder, encode_questions, load_encoder
from medcards.search.evaluation import RerankEvalParams, score_ranking
from medcards.search.exact import exact_search
from medcards.search.query_sets import QuerySet, asks_in_other_words
from medcards.search.ranked_sets import RankedSet
from medcards.search.rankings import RANKING_DEPTH, Ranking, rerank
from medcards.search.systems import WITH_QUESTIONS, Retriever, Served, hybrid
from medcards.search.vectors import Vectors

FOLDS = 10
"""Number of parts of the validation groups; each is ranked with the weights that the other parts choose."""
BM25_WEIGHTS = [step / 10 for step in range(10)]
"""Weights of BM25 in ``hybrid`` to choose from. The bi-encoder always has a weight above 0, so that a question without
a word of the deck finds answers as well."""
CROSS_ENCODER_WEIGHTS = [step / 10 for step in range(1, 11)]


def reciprocal_ranks(ranking: Ranking, queries: QuerySet, answer_ids: np.ndarray) -> pd.Series:
    """The reciprocal rank of each question's first relevant answer among the first 10; 0 where there is none."""
    return score_ranking(ranking[0], queries.relevant, answer_ids, ["mrr@10"])["mrr@10"]


def best_bm25_weight(dense: Ranking, bm25: Ranking, queries: QuerySet, answer_ids: np.ndarray) -> float:
    """The weight of BM25 in the fusion with the highest mean MRR@10; the smallest of equal ones."""
    fused = [hybrid(dense, bm25, weight) for weight in BM25_WEIGHTS]
    return BM25_WEIGHTS[_best([reciprocal_ranks(ranking, queries, answer_ids) for ranking in fused])]


def choose_served(
    retriever: Retriever,
    queries: QuerySet,
    vectors: np.ndarray,
    answer_ids: np.ndarray,
    params: RerankEvalParams,
    seed: int,
) -> tuple[Served, dict | None]:
    """Choose the weights with the highest MRR@10 on the validation questions, and the system that is served.

    The re-ranked system is served if the interval of its gain over ``hybrid`` lies above zero. Weights that are chosen
    on a question overstate the gain on it. For this decision the questions are cross-validated: each tenth of the
    groups is ranked with the weights that the other groups choose.

    Parameters
    ----------
    queries : the validation questions, see :meth:`medcards.search.query_sets.QuerySet.joined`.
    vectors : their unit vectors, shape (questions, dimension).
    answer_ids : card ids of the corpus.
    params : the number of candidates, and whether spelling is corrected.

    Returns
    -------
    served : the system and the weights.
    gain : the interval of re-ranking's gain in MRR@10 over ``hybrid``; None without a cross-encoder.
    """
    served = Served(
        system="hybrid",
        bm25_weight=0.0,
        rerank_weights=[1.0, 0.0, 0.0],
        candidates=params.candidates,
        spelling=params.spelling,
        questions=False,
    )
    found = retriever.rank(queries.questions, vectors, served, ["hnsw", "bm25"])
    bm25_weight = best_bm25_weight(found["hnsw"], found["bm25"], queries, answer_ids)
    served = served.model_copy(update={"bm25_weight": bm25_weight})
    if retriever.scorer is None:
        return served, None
    first = hybrid(found["hnsw"], found["bm25"], bm25_weight)
    scores = retriever.scores(queries.questions, vectors, first[0][:, : params.candidates])
    mixtures = [_mixture(bm25_weight, weight) for weight in CROSS_ENCODER_WEIGHTS]
    reranked = [reciprocal_ranks(rerank(first, scores, weights), queries, answer_ids) for weights in mixtures]
    gains = -reciprocal_ranks(first, queries, answer_ids)
    fold = pd.factorize(queries.cards.group)[0] % FOLDS
    for number in range(fold.max() + 1):
        held_out = fold == number
        gains[held_out] += reranked[_best([one[~held_out] for one in reranked])][held_out]
    gain = Bootstrap(queries.cards.group, seed).interval(gains)
    system = "hybrid_rerank" if gain["lo"] > 0 else "hybrid"
    return served.model_copy(update={"rerank_weights": mixtures[_best(reranked)], "system": system}), gain


def serves_questions(ranked: list[RankedSet], served: Served, answer_ids: np.ndarray, seed: int) -> bool:
    """Whether users are served with the questions of the cards as well.

    A question in the words of a card's question then finds that card. So users are served so, unless the validation
    questions in other words are ranked measurably worse: the interval of the difference in MRR@10 lies below zero.
    False where the deck has no such questions.
    """
    asked = [one for one in ranked if one.queries.split == "validation" and asks_in_other_words(one.queries.name)]
    if not asked:
        return False
    gains = [
        reciprocal_ranks(one.found[WITH_QUESTIONS], one.queries, answer_ids)
        - reciprocal_ranks(one.found[served.system], one.queries, answer_ids)
        for one in asked
    ]
    groups = pd.concat([one.queries.cards.group for one in asked], ignore_index=True)
    return Bootstrap(groups, seed).interval(pd.concat(gains, ignore_index=True))["hi"] >= 0


def _mixture(bm25_weight: float, cross_encoder: float) -> list[float]:
    """The weights of cosine similarity, BM25 and cross-encoder for a given weight of the cross-encoder.

    Bi-encoder and BM25 share the rest in the same proportion as in ``hybrid``. Two free weights would find more gain
    on the questions that choose them, and less on others.
    """
    rest = 1 - cross_encoder
    return [round(rest * (1 - bm25_weight), 2), round(rest * bm25_weight, 2), cross_encoder]


def _best(choices: list[pd.Series]) -> int:
    """The place of the highest sum; the first of equal ones."""
    return max(range(len(choices)), key=lambda place: (round(choices[place].sum(), 9), -place))


class UnadaptedSearch:
    """Search with the vectors of the unadapted bi-encoder, which the adapted one is compared with.

    Parameters
    ----------
    vectors : the unadapted bi-encoder's vectors.
    encoder : the unadapted bi-encoder.
    validation : the validation questions that choose the weight of BM25.
    bm25 : BM25's ranking for these questions.
    """

    def __init__(self, vectors: Vectors, encoder: TextEncoder, validation: QuerySet, bm25: Ranking):
        self._vectors, self._encoder = vectors, encoder
        self.bm25_weight = best_bm25_weight(self._dense(validation), bm25, validation, vectors.answer_ids)

    @classmethod
    def load(
        cls, data: Path, cards: pd.DataFrame, validation: QuerySet, bm25: Bm25, batch_tokens: int
    ) -> "UnadaptedSearch | None":
        """The search with the unadapted bi-encoder of a run; None where the run adapts none.

        Parameters
        ----------
        data : the folder that the pipeline writes.
        batch_tokens : largest number of tokens that are encoded at a time.
        """
        if not read_manifest(data / "encoder")["trained"]:
            return None
        reference = pinned_model(data, "encoder")
        encoder = partial(encode_questions, load_encoder(resolve(reference), reference), batch_tokens=batch_tokens)
        return cls(Vectors.load(data / "vectors", cards), encoder, validation, bm25.search(validation.questions))

    def rank(self, queries: QuerySet, bm25: Ranking) -> dict[str, Ranking]:
        """Rankings of ``dense_before`` (exact search) and ``hybrid_before`` (fused with BM25).

        Returns
        -------
        rankings, by system; none for perturbed questions.
        """
        if queries.perturbed:
            return {}
        dense = self._dense(queries)
        return {"dense_before": dense, "hybrid_before": hybrid(dense, bm25, self.bm25_weight)}

    def _dense(self, queries: QuerySet) -> Ranking:
        asked = queries.vectors(self._vectors, self._encoder)
        return exact_search(asked, self._vectors.answers, RANKING_DEPTH)
