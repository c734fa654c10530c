"""From a query to a ranking, and how rankings are scored.

A ranking is a pair of arrays of shape (queries, depth): row numbers of the corpus, best first, and their scores.
Row -1 stands for nothing: the system found fewer answers.
"""

import ir_measures
import numpy as np
import pandas as pd
from ir_measures import RR, R, nDCG
from pydantic import PositiveInt
from tqdm import tqdm

from medcards.params import Block
from medcards.stats import Bootstrap

DEPTH = 50  # as deep as recall is measured
# Names as the field says them, computed with trec_eval's semantics by ir_measures.
MEASURES = {
    "mrr@10": RR @ 10,
    "ndcg@10": nDCG @ 10,
    "recall@1": R @ 1,
    "recall@5": R @ 5,
    "recall@10": R @ 10,
    "recall@50": R @ 50,
}

Ranking = tuple[np.ndarray, np.ndarray]


class RerankEvalParams(Block):
    """How many questions are ranked, and how deep the re-ranker looks, see params.yaml."""

    test_queries: PositiveInt
    validation_queries: PositiveInt
    candidates: PositiveInt


def bm25(queries: list[str], answers: list[str], depth: int = DEPTH) -> Ranking:
    """Rank by BM25 (Lucene's variant, k1 1.5, b 0.75) with English stop words left out; library: bm25s."""
    import bm25s

    index = bm25s.BM25()
    index.index(bm25s.tokenize(answers, stopwords="en", show_progress=False), show_progress=False)
    tokens = bm25s.tokenize(queries, stopwords="en", return_ids=False, show_progress=False)
    rows, scores = index.retrieve(tokens, k=min(depth, len(answers)), show_progress=False, n_threads=1)
    return np.where(scores > 0, rows.astype(np.int64), -1), scores  # bm25s fills up with answers that share no word


def rerank(scorer, queries: list[str], answers: list[str], ranking: Ranking, candidates: int) -> Ranking:
    """Order each query's first ``candidates`` answers anew by a cross-encoder.

    What lies deeper is not scored and keeps its place. The right answer is never forced among the candidates.

    Parameters
    ----------
    scorer : a function from (query, answer) pairs to scores, see :func:`medcards.reranker.load_scorer`.
    ranking : the first stage's ranking.
    candidates : answers to score for each query.
    """
    rows, deeper = ranking[0][:, :candidates], ranking[0][:, candidates:]
    pairs = [(query, answers[row]) for query, found in zip(queries, rows, strict=True) for row in found]
    scores = np.asarray(scorer(pairs), dtype=np.float64).reshape(rows.shape)
    order = np.argsort(-scores, axis=1, kind="stable")
    rows, scores = np.take_along_axis(rows, order, axis=1), np.take_along_axis(scores, order, axis=1)
    return np.hstack([rows, deeper]), np.hstack([scores, np.full(deeper.shape, np.nan)])


def score_ranking(rows: np.ndarray, relevant: list[set[str]], answer_ids: np.ndarray) -> pd.DataFrame:
    """Score each query's ranking with trec_eval's semantics.

    Parameters
    ----------
    rows : shape (queries, depth), row numbers of the corpus, best first; -1 is skipped.
    relevant : the ids of each query's right answers, see :func:`medcards.cards.relevant_answers`.
    answer_ids : the corpus's card ids.

    Returns
    -------
    table with one row a query and one column a measure of :data:`MEASURES`.

    Examples
    --------
    >>> score_ranking(np.array([[1, 0]]), [{"a"}], np.array(["a", "b"]))["mrr@10"].tolist()
    [0.5]
    """
    # trec_eval sorts by score and breaks ties by id; scores made from the ranks keep the ranker's own order.
    run = {
        str(query): {str(answer_ids[row]): float(len(found) - rank) for rank, row in enumerate(found) if row >= 0}
        for query, found in enumerate(rows.tolist())
    }
    qrels = {str(query): dict.fromkeys(ids, 1) for query, ids in enumerate(relevant)}
    table = pd.DataFrame(0.0, index=range(len(rows)), columns=list(MEASURES))
    names = {measure: name for name, measure in MEASURES.items()}
    for result in ir_measures.iter_calc(list(MEASURES.values()), qrels, run):
        table.loc[int(result.query_id), names[result.measure]] = result.value
    return table


def summarise(scores: dict[str, pd.DataFrame], bootstrap: Bootstrap, baseline: str) -> dict:
    """Mean and interval of every measure of every system, and each system's paired difference to ``baseline``.

    Returns ``{system: {measure: interval}, "differences": {"a-b": {measure: interval}}}``.
    """
    summary = {
        system: {measure: bootstrap.interval(table[measure]) for measure in table}
        for system, table in tqdm(scores.items(), desc="intervals", leave=False)
    }
    summary["differences"] = {
        f"{system}-{baseline}": {
            measure: bootstrap.interval(table[measure] - scores[baseline][measure]) for measure in table
        }
        for system, table in scores.items()
        if system != baseline
    }
    return summary
