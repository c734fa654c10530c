"""Scores of rankings, and the tables and summaries made from them."""

from collections.abc import Collection, Iterable
from functools import partial

import numpy as np
import pandas as pd
from pydantic import Field, PositiveInt
from threadpoolctl import threadpool_limits
from tqdm import tqdm

from medcards.base.params import Block
from medcards.base.stats import Bootstrap, paired_differences
from medcards.deck.cards import AskedSplit
from medcards.search.encoder import TextEncoder
from medcards.search.latency import measure_latency
from medcards.search.query_sets import QuerySet
from medcards.search.rankings import RANKING_DEPTH, Ranking
from medcards.search.systems import RETRIEVAL_SYSTEMS, SERVED_SYSTEMS, WITH_QUESTIONS, Retriever, Served

MEASURES = ("mrr@10", "ndcg@10", "recall@1", "recall@5", "recall@10", "recall@50")
"""Measures with the semantics of trec_eval (library: ir_measures)."""
UNADAPTED = {"dense_before": "dense_exact", "hybrid_before": "hybrid"}
"""Systems with the unadapted bi-encoder, and the systems that they equal where the bi-encoder is not adapted."""
RECALL_DEPTHS = (1, 2, 3, 5, 10, 20, 30, 50)
TIMED_QUESTIONS = 30


class RerankEvalParams(Block):
    """The block ``rerank_eval`` of params.yaml."""

    test_queries: PositiveInt
    validation_queries: PositiveInt
    candidates: int = Field(ge=2, le=RANKING_DEPTH)
    spelling: bool
    false_refusals: float = Field(gt=0, lt=0.5)
    batch_tokens: PositiveInt


class AsksSplit(Block, extra="ignore"):
    """Which questions are measured, of the block ``answer`` of params.yaml."""

    split: AskedSplit


def score_ranking(
    rows: np.ndarray, relevant: list[set[str]], answer_ids: np.ndarray, measures: Iterable[str] = MEASURES
) -> pd.DataFrame:
    """Score each question's ranking with the semantics of trec_eval.

    Parameters
    ----------
    rows : row numbers of the corpus, best first, shape (questions, depth); -1 is skipped.
    relevant : ids of each question's relevant answers, see :func:`medcards.deck.relevance.relevant_answers`.
    answer_ids : card ids of the corpus, shape (answers,).
    measures : names such as ``mrr@k``, ``ndcg@k`` and ``recall@k``.

    Returns
    -------
    table with one row per question and one column per measure.

    Examples
    --------
    >>> score_ranking(np.array([[1, 0]]), [{"a"}], np.array(["a", "b"]))["mrr@10"].tolist()
    [0.5]
    """
    import ir_measures

    kinds = {"mrr": ir_measures.RR, "ndcg": ir_measures.nDCG, "recall": ir_measures.R}
    names = {kinds[kind] @ int(depth): f"{kind}@{depth}" for kind, depth in (name.split("@") for name in measures)}
    # trec_eval sorts by score and breaks ties by id, so the scores are made from the ranks.
    run = {
        str(place): {str(answer_ids[row]): float(len(found) - rank) for rank, row in enumerate(found) if row >= 0}
        for place, found in enumerate(rows.tolist())
    }
    qrels = {str(place): dict.fromkeys(ids, 1) for place, ids in enumerate(relevant)}
    scores = {name: np.zeros(len(rows)) for name in names.values()}
    for result in ir_measures.iter_calc(list(names), qrels, run):
        scores[names[result.measure]][int(result.query_id)] = result.value
    return pd.DataFrame(scores)


def score_systems(
    rankings: dict[str, Ranking], relevant: list[set[str]], answer_ids: np.ndarray, candidates: int
) -> dict[str, pd.DataFrame]:
    """Score the ranking of every system, see :func:`score_ranking`.

    A re-ranked system also gets ``candidate_recall``, the recall of its candidates.
    """
    scores = {system: score_ranking(rows, relevant, answer_ids) for system, (rows, _) in rankings.items()}
    for system in scores.keys() & {"hnsw_rerank", "hybrid_rerank"}:
        first, depth = rankings[system.removesuffix("_rerank")][0], f"recall@{candidates}"
        scores[system]["candidate_recall"] = score_ranking(first, relevant, answer_ids, [depth])[depth]
    return scores


def ranking_pairs(systems: Collection[str]) -> list[tuple[str, str]]:
    """The pairs of systems that are compared, among those that ranked the questions.

    Every system is compared with ``dense_exact``, a re-ranked system with its first stage, and a system that may be
    served with every baseline. The baselines are BM25, the unadapted bi-encoder, and their fusion. The served system is
    compared with itself where it searches the questions of the cards as well. No pair is picked by its scores.
    """
    pairs = [(system, "dense_exact") for system in systems if system != "dense_exact"]
    pairs += [(f"{first}_rerank", first) for first in ("hnsw", "hybrid") if f"{first}_rerank" in systems]
    baselines = ["bm25", *(before if before in systems else now for before, now in UNADAPTED.items())]
    pairs += [(WITH_QUESTIONS, system) for system in SERVED_SYSTEMS if {WITH_QUESTIONS, system} <= set(systems)]
    pairs += [(system, name) for system in SERVED_SYSTEMS if system in systems for name in baselines if system != name]
    return list(dict.fromkeys(pairs))


def summarise_rankings(scores: dict[str, pd.DataFrame], bootstrap: Bootstrap) -> dict[str, dict]:
    """Mean and interval of every measure of every system, and the paired differences of :func:`ranking_pairs`.

    Returns
    -------
    ``{system: {measure: interval}, "differences": {"a-b": {measure: difference}}}``, see
    :func:`medcards.base.stats.paired_differences`.
    """
    summary = {system: {name: bootstrap.interval(table[name]) for name in table} for system, table in scores.items()}
    summary["differences"] = paired_differences(scores, bootstrap, ranking_pairs(scores))
    return summary


def rank_queries(queries: QuerySet, asked: np.ndarray, retriever: Retriever, served: Served) -> dict[str, Ranking]:
    """The rankings of every system. The cross-encoder re-ranks all questions for the served system alone.

    The deck's own questions are re-ranked for every system.

    Parameters
    ----------
    asked : unit vectors of the questions, shape (questions, dimension).
    """
    reranked = retriever.scorer and queries.name == "own"
    systems = [
        system for system in RETRIEVAL_SYSTEMS if reranked or system == served.system or not system.endswith("_rerank")
    ]
    return retriever.rank(queries.questions, asked, served, systems)


def measure_rankings(
    rankings: dict[str, Ranking], queries: QuerySet, answer_ids: np.ndarray, candidates: int, seed: int
) -> dict[str, dict]:
    """Every measure of every system with its interval, and the paired differences, see :func:`summarise_rankings`."""
    scores = score_systems(rankings, queries.relevant, answer_ids, candidates)
    return summarise_rankings(scores, Bootstrap(queries.cards.group, seed))


def recall_at_k(rankings: dict[str, Ranking], relevant: list[set[str]], answer_ids: np.ndarray) -> pd.DataFrame:
    """Mean recall at every depth of :data:`RECALL_DEPTHS`: the column ``k``, and one column per system.

    The column of a system of :data:`RETRIEVAL_SYSTEMS` without a ranking is empty.
    """
    measures = [f"recall@{depth}" for depth in RECALL_DEPTHS]
    means = {name: score_ranking(rows, relevant, answer_ids, measures).mean() for name, (rows, _) in rankings.items()}
    curves = pd.DataFrame(means, index=measures).reindex(columns=list(dict.fromkeys([*RETRIEVAL_SYSTEMS, *rankings])))
    return curves.set_axis(pd.Index(RECALL_DEPTHS, name="k")).reset_index()


def ranking_table(rankings: dict[str, Ranking], queries: QuerySet, answer_ids: np.ndarray) -> pd.DataFrame:
    """Rankings as a long table: one row per split, query set, system, query and rank."""
    tables = []
    for system, (rows, scores) in rankings.items():
        table = pd.DataFrame({"system": system, "query": queries.cards.card_id.repeat(rows.shape[1])})
        table["rank"] = table.groupby("query").cumcount() + 1
        table["answer"], table["score"] = answer_ids[rows.ravel()], scores.ravel()
        tables.append(table[rows.ravel() >= 0])
    return pd.concat(tables).assign(split=queries.split, query_set=queries.name)


def time_systems(
    retriever: Retriever, encoder: TextEncoder, questions: list[str], served: Served
) -> dict[str, dict[str, float]]:
    """Measure the time from a question's text to its ranking, on one thread.

    Parameters
    ----------
    retriever, encoder : with models that run on one thread.
    questions : texts, of which the first :data:`TIMED_QUESTIONS` are asked.

    Returns
    -------
    what :func:`medcards.search.latency.measure_latency` returns, by system.
    """
    systems = [name for name in RETRIEVAL_SYSTEMS if retriever.scorer or not name.endswith("_rerank")]
    times = {}
    with threadpool_limits(1):
        for system in tqdm(systems, desc="latency"):
            answer = partial(_rank_texts, retriever, encoder, served, system)
            times[system] = measure_latency(answer, questions[:TIMED_QUESTIONS])
    return times


def _rank_texts(retriever: Retriever, encoder: TextEncoder, served: Served, system: str, questions: list[str]) -> None:
    no_vectors = np.empty((len(questions), 0), dtype=np.float32)
    vectors = no_vectors if system == "bm25" else encoder(questions)
    retriever.rank(questions, vectors, served, [system])
