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
from tqdm import tqdm

from medcards import cards as card_tables
from medcards.ann import HnswIndex, exact_search, latency
from medcards.encoder import Embeddings, encode, load_encoder
from medcards.files import atomic, write_json
from medcards.manifests import model_folder, read_manifest
from medcards.params import Seed
from medcards.perturbations import PERTURBATIONS, perturb
from medcards.reranker import load_scorer
from medcards.retrieval import DEPTH, SYSTEMS, Ranking, Retriever, Served, hybrid, remembering
from medcards.retrieval_eval import (
    RerankEvalParams,
    best_bm25_weight,
    choose_served,
    claimed_pairs,
    score_ranking,
    score_systems,
    summarise,
)
from medcards.retrieval_figures import DEPTHS, plot_latency, plot_quality
from medcards.stats import Bootstrap
from stages import DATA, METRICS, PLOTS, load_params, run

log = logging.getLogger("medcards.rerank_eval")

TIMED = 30


def question_sets(cards: pd.DataFrame, split: str, count: int, seed: int) -> dict[str, pd.DataFrame]:
    """The sampled questions of every query set, by its name."""
    names = sorted(set(cards.query_set[cards.split == split]), reverse=True)  # own first
    sets = {name: card_tables.sample(cards, split, count, seed, name) for name in names}
    own = sets["own"]
    for name in PERTURBATIONS:
        sets[name] = own.assign(question=[perturb(name, text, seed) for text in own.question])
    return sets


def add_unadapted(found: dict[str, Ranking], before: Embeddings, queries: pd.DataFrame, weight: float) -> None:
    """Rank with the bi-encoder as it came as well: what the adaptation is compared with."""
    found["dense_before"] = exact_search(before.questions_of(queries.card_id), before.answers, DEPTH)
    found["hybrid_before"] = hybrid(found["dense_before"], found["bm25"], weight)


def long_table(rankings: dict[str, Ranking], queries: pd.DataFrame, answer_ids: np.ndarray) -> pd.DataFrame:
    """One row for each (system, query, rank)."""
    tables = []
    for system, (rows, scores) in rankings.items():
        table = pd.DataFrame({"system": system, "query": queries.card_id.repeat(rows.shape[1])})
        table["rank"] = table.groupby("query").cumcount() + 1
        table["answer"], table["score"] = answer_ids[rows.ravel()], scores.ravel()
        tables.append(table[rows.ravel() >= 0])
    return pd.concat(tables)


def recall_curves(found: dict[str, Ranking], relevant: list, answer_ids: np.ndarray) -> pd.DataFrame:
    """Mean recall at every depth: a column a system, empty for one that was not run."""
    columns = {f"recall@{depth}": depth for depth in DEPTHS}
    curves = pd.DataFrame({"k": DEPTHS})
    for system in dict.fromkeys([*SYSTEMS, *found]):
        if system in found:
            means = score_ranking(found[system][0], relevant, answer_ids, list(columns)).mean()
            curves[system] = means[list(columns)].to_numpy()
        else:
            curves[system] = np.nan
    return curves


def time_systems(retriever: Retriever, encoder, questions: list[str], served: Served) -> dict:
    """The time from a question's text to its ranking, by system."""
    none = np.empty((1, 0), dtype=np.float32)
    times = {}
    for system in tqdm([name for name in SYSTEMS if retriever.scorer or "rerank" not in name], desc="latency"):

        def search(asked: list[str], system: str = system) -> None:
            vectors = none if system == "bm25" else encode(encoder, asked, 1)
            retriever.rank(asked, vectors, served, [system])

        times[system] = latency(search, questions[:TIMED])
    return times


def main() -> dict:
    seed, params = load_params(seed=Seed, rerank_eval=RerankEvalParams)
    scorer = load_scorer(DATA / "reranker", params.batch_size)
    cards = card_tables.load(DATA / "cards")
    answers = card_tables.corpus(cards)
    embeddings = Embeddings.load(DATA / "embeddings", cards)
    ids = embeddings.answer_ids
    before = DATA / "embeddings" / "before"
    before = Embeddings.load(before, cards) if before.exists() else None
    encoder = load_encoder(model_folder(DATA / "encoder"))
    index = HnswIndex.load(DATA / "index", embeddings.answers)
    retriever = Retriever(answers.answer.tolist(), embeddings.answers, index, scorer and remembering(scorer))

    sets = {
        (split, name): queries
        for split, count in (("validation", params.validation_queries), ("test", params.test_queries))
        for name, queries in question_sets(cards, split, count, seed).items()
    }
    relevant = {key: card_tables.relevant_answers(queries, answers) for key, queries in sets.items()}
    own = sets["validation", "own"]
    asked, vectors = own.question.tolist(), embeddings.questions_of(own.card_id)

    def mrr(ranking: Ranking) -> pd.Series:
        return score_ranking(ranking[0], relevant["validation", "own"], ids, ["mrr@10"])["mrr@10"]

    served = choose_served(retriever, asked, vectors, mrr, Bootstrap(own.group, seed), params.candidates)
    log.info("served: %s", served)
    if before:
        dense, words = (
            exact_search(before.questions_of(own.card_id), before.answers, DEPTH),
            retriever.bm25.search(asked),
        )
        before_weight = best_bm25_weight(dense, words, mrr)

    reranker = read_manifest(DATA / "reranker")
    metrics = {
        "corpus": len(answers),
        "reranker": {key: reranker[key] for key in ("model", "trained")},
        "served": served.model_dump(),
        "validation": {},
        "test": {},
    }
    tables = []
    for (split, name), queries in tqdm(sets.items(), desc="query sets"):
        systems = [system for system in SYSTEMS if (name == "own" and scorer) or not system.endswith("_rerank")]
        if name in PERTURBATIONS:
            vectors = encode(encoder, queries.question.tolist(), 64)
        else:
            vectors = embeddings.questions_of(queries.card_id)
        found = retriever.rank(queries.question.tolist(), vectors, served, systems)
        if before and name not in PERTURBATIONS:
            add_unadapted(found, before, queries, before_weight)
        scores = score_systems(found, relevant[split, name], ids, params.candidates)
        pairs = claimed_pairs(scores, served.system)
        metrics[split][name] = summarise(scores, Bootstrap(queries.group, seed), pairs)
        tables.append(long_table(found, queries, ids).assign(split=split, query_set=name))
        if (split, name) == ("test", "own"):
            curves = recall_curves(found, relevant[split, name], ids)

    retriever.scorer = scorer  # one that remembers would be timed on what it knows
    times = time_systems(retriever, encoder, sets["test", "own"].question.tolist(), served)
    with atomic(DATA / "rankings") as folder:
        folder.mkdir()
        pd.concat(tables).to_parquet(folder / "rankings.parquet", index=False)
        write_json(folder / "served.json", served.model_dump())
    with atomic(PLOTS / "retrieval") as folder:
        plot_quality(metrics["test"], curves, folder)
    with atomic(PLOTS / "cost" / "retrieval") as folder:
        plot_latency(metrics["test"]["own"], times, folder / "latency.png")
    write_json(METRICS / "retrieval.json", metrics)
    return {"latency": times}


if __name__ == "__main__":
    run("rerank_eval", main)
