"""rerank_eval: rank the deck's answers for sampled questions with every retrieval system, and score the rankings.

Query sets: the deck's own questions, everyday wordings where the source has them (layperson), and the own questions
with typos, with words dropped, and in lower case. The cross-encoder re-ranks the own questions only. Weights and the
served system are chosen on the validation questions.

reads   data/cards, data/embeddings, data/encoder, data/index, data/reranker
writes  data/rankings, metrics/retrieval.json, plots/retrieval, plots/cost/retrieval
"""

import logging

import numpy as np
import pandas as pd
from threadpoolctl import threadpool_limits
from tqdm import tqdm

from medcards.base.files import atomic, write_json
from medcards.base.manifests import model_folder, read_manifest
from medcards.base.params import Seed
from medcards.base.stats import Bootstrap
from medcards.deck import cards as card_tables
from medcards.report.search import plot_latency, plot_quality
from medcards.search.cross_encoder import load_scorer
from medcards.search.encoder import Embeddings, encode, load_encoder
from medcards.search.evaluation import (
    QuerySet,
    RerankEvalParams,
    best_bm25_weight,
    choose_served,
    claimed_pairs,
    query_sets,
    recall_curves,
    score_ranking,
    score_systems,
    summarise,
)
from medcards.search.index import HnswIndex, exact_search, latency
from medcards.search.systems import DEPTH, SYSTEMS, Ranking, Retriever, Served, hybrid, remembering
from stages import DATA, METRICS, PLOTS, load_params, run

log = logging.getLogger("medcards.rerank_eval")

TIMED = 30


def long_table(rankings: dict[str, Ranking], queries: QuerySet, answer_ids: np.ndarray) -> pd.DataFrame:
    """One row for each (split, query set, system, query, rank)."""
    tables = []
    for system, (rows, scores) in rankings.items():
        table = pd.DataFrame({"system": system, "query": queries.cards.card_id.repeat(rows.shape[1])})
        table["rank"] = table.groupby("query").cumcount() + 1
        table["answer"], table["score"] = answer_ids[rows.ravel()], scores.ravel()
        tables.append(table[rows.ravel() >= 0])
    return pd.concat(tables).assign(split=queries.split, query_set=queries.name)


def time_systems(retriever: Retriever, encoder, questions: list[str], served: Served) -> dict:
    """The time from a question's text to its ranking, by system, on one thread."""
    none = np.empty((1, 0), dtype=np.float32)
    times = {}
    for system in tqdm([name for name in SYSTEMS if retriever.scorer or "rerank" not in name], desc="latency"):

        def search(asked: list[str], system: str = system) -> None:
            vectors = none if system == "bm25" else encode(encoder, asked, 1)
            retriever.rank(asked, vectors, served, [system])

        with threadpool_limits(1):
            times[system] = latency(search, questions[:TIMED])
    return times


class Unadapted:
    """The bi-encoder before its adaptation, to compare the adapted one with; ranks nothing where there is none."""

    def __init__(self, cards: pd.DataFrame):
        folder = DATA / "embeddings" / "before"
        self.embeddings = Embeddings.load(folder, cards) if folder.exists() else None
        self.bm25_weight = 0.0

    def rank(self, queries: QuerySet, words: Ranking) -> dict[str, Ranking]:
        """Its exact search, and that fused with BM25."""
        if self.embeddings is None or queries.perturbed:  # perturbed questions have no vectors of its
            return {}
        dense = exact_search(self.embeddings.questions_of(queries.cards.card_id), self.embeddings.answers, DEPTH)
        return {"dense_before": dense, "hybrid_before": hybrid(dense, words, self.bm25_weight)}


def main() -> dict:
    seed, params = load_params(seed=Seed, rerank_eval=RerankEvalParams)
    scorer = load_scorer(DATA / "reranker", params.batch_size)
    cards = card_tables.load(DATA / "cards")
    answers = card_tables.corpus(cards)
    embeddings, unadapted = Embeddings.load(DATA / "embeddings", cards), Unadapted(cards)
    ids, encoder = embeddings.answer_ids, load_encoder(model_folder(DATA / "encoder"))
    embeddings.check_encoder(encoder, cards)
    index = HnswIndex.load(DATA / "index", embeddings.answers)
    retriever = Retriever(answers.answer.tolist(), embeddings.answers, index, scorer and remembering(scorer))
    validation = query_sets(cards, answers, "validation", params.validation_queries, seed)
    test = query_sets(cards, answers, "test", params.test_queries, seed)

    def vectors(queries: QuerySet) -> np.ndarray:
        if queries.perturbed:
            return encode(encoder, queries.questions, params.batch_size)
        return embeddings.questions_of(queries.cards.card_id)

    own = validation[0]

    def mrr(ranking: Ranking) -> pd.Series:
        return score_ranking(ranking[0], own.relevant, ids, ["mrr@10"])["mrr@10"]

    served, gain = choose_served(retriever, own.questions, vectors(own), own.cards.group, mrr, params.candidates, seed)
    words = retriever.bm25.search(own.questions)
    if before := unadapted.rank(own, words):
        unadapted.bm25_weight = best_bm25_weight(before["dense_before"], words, mrr)
    log.info("served: %s", served)

    manifest = read_manifest(DATA / "reranker")
    metrics = {"corpus": len(answers), "served": served.model_dump(), "validation": {}, "test": {}}
    if gain:
        metrics["reranking_gain"] = {"mrr@10": gain}
    metrics["reranker"] = {key: manifest[key] for key in ("model", "trained")}
    tables, curves = [], {}
    for queries in tqdm([*validation, *test], desc="query sets"):
        reranked = scorer and queries.name == "own"
        systems = [system for system in SYSTEMS if reranked or not system.endswith("_rerank")]
        found = retriever.rank(queries.questions, vectors(queries), served, systems)
        found |= unadapted.rank(queries, found["bm25"])
        scores = score_systems(found, queries.relevant, ids, params.candidates)
        summary = summarise(scores, Bootstrap(queries.cards.group, seed), claimed_pairs(scores))
        metrics[queries.split][queries.name] = summary
        tables.append(long_table(found, queries, ids))
        if queries.name == "own":
            curves[queries.split] = recall_curves(found, queries.relevant, ids)

    retriever.scorer = scorer  # one that remembers would be timed on what it knows
    times = time_systems(retriever, encoder, test[0].questions, served)
    with atomic(DATA / "rankings") as folder:
        folder.mkdir()
        pd.concat(tables).to_parquet(folder / "rankings.parquet", index=False)
        write_json(folder / "served.json", served.model_dump())
    with atomic(PLOTS / "retrieval") as folder:
        plot_quality(metrics["test"], curves["test"], folder)
    with atomic(PLOTS / "cost" / "retrieval") as folder:
        plot_latency(metrics["test"]["own"], times, folder / "latency.png")
    write_json(METRICS / "retrieval.json", metrics)
    return {"latency": times}


if __name__ == "__main__":
    run("rerank_eval", main)
