"""rerank_eval: rank the answers for sampled questions with every retrieval system, and score the rankings.

Query sets: the deck's own questions, layperson questions where the source has them, and the own questions with typos,
with words dropped, and in lower case. The cross-encoder re-ranks the own questions only. The weights and the served
system are chosen on the validation questions.

reads   data/cards, data/vectors, data/encoder, data/index, data/reranker
writes  data/rankings: rankings.parquet, served.json
        data/figures/rerank_eval: metrics.json, recall_at_k.csv (own test questions)
"""

import logging
from functools import partial

import pandas as pd
from tqdm import tqdm

from medcards.base.files import atomic, write_csv, write_json
from medcards.base.manifests import model_folder, read_manifest
from medcards.base.params import Seed
from medcards.deck import cards as card_tables
from medcards.search.cross_encoder import load_scorer, memoised
from medcards.search.encoder import check_encoder, encode_questions, load_encoder
from medcards.search.evaluation import (
    RerankEvalParams,
    measure_rankings,
    rank_queries,
    ranking_table,
    recall_at_k,
    time_systems,
)
from medcards.search.exported import search_encoder, search_scorer
from medcards.search.index import HnswIndex
from medcards.search.query_sets import query_sets
from medcards.search.serving import UnadaptedSearch, choose_served
from medcards.search.systems import Retriever
from medcards.search.vectors import Vectors, search_vectors
from stages import DATA, figures, load_params, run

log = logging.getLogger("medcards.rerank_eval")


def main() -> dict:
    seed, params = load_params(seed=Seed, rerank_eval=RerankEvalParams)
    cards = card_tables.load_cards(DATA / "cards")
    answers = card_tables.corpus(cards)
    vectors, model = search_vectors(DATA, cards), load_encoder(model_folder(DATA / "encoder"))
    encoder = partial(encode_questions, model, batch_tokens=params.batch_tokens)
    check_encoder(vectors, encoder, cards)
    ids, index = vectors.answer_ids, HnswIndex.load(DATA / "index", vectors.answers)
    scorer = load_scorer(DATA / "reranker", params.batch_tokens)
    retriever = Retriever(answers.answer.tolist(), vectors.answers, index, scorer and memoised(scorer))
    validation = query_sets(cards, answers, "validation", params.validation_queries, seed)
    test = query_sets(cards, answers, "test", params.test_queries, seed)

    own = validation[0]
    asked = own.vectors(vectors, encoder)
    served, gain = choose_served(retriever, own, asked, ids, params.candidates, seed)
    log.info("served: %s", served)
    unadapted = None
    if read_manifest(DATA / "encoder")["trained"]:
        bm25 = retriever.bm25.search(own.questions)
        unadapted = UnadaptedSearch(Vectors.load(DATA / "vectors", cards), own, bm25)

    manifest = read_manifest(DATA / "reranker")
    metrics = {"corpus": len(answers), "served": served.model_dump(), "validation": {}, "test": {}}
    if gain:
        metrics["reranking_gain"] = {"mrr@10": gain}
    metrics["reranker"] = {key: manifest[key] for key in ("model", "trained")}
    tables, curves = [], {}
    for queries in tqdm([*validation, *test], desc="query sets"):
        asked = queries.vectors(vectors, encoder)
        found = rank_queries(queries, asked, retriever, served)
        if unadapted:
            found |= unadapted.rank(queries, found["bm25"])
        metrics[queries.split][queries.name] = measure_rankings(found, queries, ids, params.candidates, seed)
        tables.append(ranking_table(found, queries, ids))
        if queries.name == "own":
            curves[queries.split] = recall_at_k(found, queries.relevant, ids)

    # The clock measures the models that are served. They are exported here, so that the first search starts fast.
    retriever.scorer = search_scorer(DATA / "reranker", threads=1)
    times = time_systems(retriever, search_encoder(DATA / "encoder", threads=1), test[0].questions, served)
    with atomic(DATA / "rankings") as folder:
        folder.mkdir()
        pd.concat(tables).to_parquet(folder / "rankings.parquet", index=False)
        write_json(folder / "served.json", served.model_dump())
    with figures("rerank_eval") as folder:
        write_json(folder / "metrics.json", metrics)
        write_csv(curves["test"], folder / "recall_at_k.csv")
    return {"latency": times}


if __name__ == "__main__":
    run("rerank_eval", main)
