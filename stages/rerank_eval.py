"""rerank_eval: rank the answers for sampled questions with every retrieval system, and score the rankings.

Query sets: the deck's own questions, layperson questions where the source has them, and the own questions with typos,
with words dropped, and in lower case. The weights and the served system are chosen on the validation questions, own and
layperson together. The served system ranks every query set; other systems with a cross-encoder rank the own questions
only. Test questions are ranked where `answer.split` is test.

On query sets in other words than the deck's own questions, the served system also searches the questions of the cards
(`with_questions`). Users are served so if its MRR@10 is higher on the validation questions.

Each question is asked twice, with its relevant answers in the corpus and with all of them hidden. On the validation
questions of every query set, a model learns the probability that the deck has an answer.

reads   data/cards, data/vectors, data/encoder, data/index, data/reranker
writes  data/rankings: rankings.parquet (`hidden` marks rankings of the deck without a question's relevant answers),
        served.json, answerability.json (the fitted model), answerability.parquet (evidence and probabilities)
        data/figures/rerank_eval: metrics.json, recall_at_k.csv (own questions of answer.split), answerability.json,
        risk_coverage.csv and reliability.csv (questions of answer.split)
"""

import logging
from functools import partial

import pandas as pd
from tqdm import tqdm

from medcards.base.files import atomic, write_csv, write_json
from medcards.base.manifests import model_folder, read_manifest
from medcards.base.params import Seed
from medcards.deck import cards as card_tables
from medcards.search.answerability import MODEL_FILE, asked_twice, with_probabilities
from medcards.search.cross_encoder import load_scorer, memoised
from medcards.search.encoder import check_encoder, encode_questions, load_encoder
from medcards.search.evaluation import (
    AsksSplit,
    RerankEvalParams,
    measure_rankings,
    rank_queries,
    ranking_table,
    recall_at_k,
    time_systems,
)
from medcards.search.exported import search_encoder, search_scorer
from medcards.search.index import HnswIndex
from medcards.search.query_sets import QuerySet, query_sets
from medcards.search.question_field import QuestionField
from medcards.search.selective import answerability_metrics, selective_curves
from medcards.search.serving import UnadaptedSearch, choose_served, questions_help
from medcards.search.spelling import Spelling
from medcards.search.systems import WITH_QUESTIONS, Retriever
from medcards.search.vectors import Vectors, search_vectors
from stages import DATA, figures, load_params, run

log = logging.getLogger("medcards.rerank_eval")


def main() -> dict:
    seed, params, answer = load_params(seed=Seed, rerank_eval=RerankEvalParams, answer=AsksSplit)
    cards = card_tables.load_cards(DATA / "cards")
    answers = card_tables.corpus(cards)
    vectors, model = search_vectors(DATA, cards), load_encoder(model_folder(DATA / "encoder"))
    encoder = partial(encode_questions, model, batch_tokens=params.batch_tokens)
    check_encoder(vectors, encoder, cards)
    ids, index = vectors.answer_ids, HnswIndex.load(DATA / "index", vectors.answers)
    scorer = load_scorer(DATA / "reranker", params.batch_tokens)
    retriever = Retriever(answers.answer.tolist(), vectors.answers, index, scorer and memoised(scorer))
    sets = query_sets(cards, answers, "validation", params.validation_queries, seed)
    if answer.split == "test":
        sets += query_sets(cards, answers, "test", params.test_queries, seed)
    if params.spelling:
        spelling = Spelling(answers.answer)
        sets = [one.spelled(spelling) for one in sets]

    choosing = QuerySet.joined([one for one in sets if one.split == "validation" and not one.perturbed])
    asked = choosing.vectors(vectors, encoder)
    served, gain = choose_served(retriever, choosing, asked, ids, params, seed)
    log.info("served: %s", served)
    unadapted = None
    if read_manifest(DATA / "encoder")["trained"]:
        bm25 = retriever.bm25.search(choosing.questions)
        unadapted = UnadaptedSearch(Vectors.load(DATA / "vectors", cards), choosing, bm25)

    manifest = read_manifest(DATA / "reranker")
    metrics = {"corpus": len(answers), "served": served.model_dump(), "split": answer.split}
    if gain:
        metrics["reranking_gain"] = {"mrr@10": gain}
    metrics["reranker"] = {key: manifest[key] for key in ("model", "trained")}
    field = QuestionField(cards, answers, vectors)
    tables, asked_tables, compared = [], [], []
    for queries in tqdm(sets, desc="query sets"):
        asked = queries.vectors(vectors, encoder)
        found = rank_queries(queries, asked, retriever, served)
        evidence, hidden = asked_twice(queries, asked, retriever, served, found, ids)
        asked_tables.append(evidence)
        found.pop("cross_encoder", None)  # scores of candidates, and no ranking
        lacking = {served.system: hidden[served.system]}
        if queries.in_other_words:
            similarities, relevant = field.measured(queries, asked), queries.relevant_rows(ids)
            found[WITH_QUESTIONS] = retriever.rank_with_questions(queries.questions, similarities, served)
            lacking[WITH_QUESTIONS] = retriever.rank_with_questions(queries.questions, similarities, served, relevant)
            if queries.split == "validation":
                compared.append((queries, found[served.system], found[WITH_QUESTIONS]))
        if unadapted:
            found |= unadapted.rank(queries, found["bm25"])
        measured = measure_rankings(found, queries, ids, params.candidates, seed)
        metrics.setdefault(queries.split, {})[queries.name] = measured
        tables.append(ranking_table(found, queries, ids).assign(hidden=False))
        tables.append(ranking_table(lacking, queries, ids).assign(hidden=True))
        if queries.name == "own":  # the last split is the one that is asked for
            own, curve = queries, recall_at_k(found, queries.relevant, ids)

    served = served.model_copy(update={"questions": questions_help(compared, ids)})
    metrics["served"] = served.model_dump()
    judged, answerability = with_probabilities(pd.concat(asked_tables, ignore_index=True), params.risk)

    # The clock measures the models that are served. They are exported here, so that the first search starts fast.
    retriever.scorer = search_scorer(DATA / "reranker", threads=1)
    times = time_systems(retriever, search_encoder(DATA / "encoder", threads=1), own.questions, served)
    with atomic(DATA / "rankings") as folder:
        folder.mkdir()
        pd.concat(tables).to_parquet(folder / "rankings.parquet", index=False)
        write_json(folder / "served.json", served.model_dump())
        write_json(folder / MODEL_FILE, answerability.model_dump())
        judged.to_parquet(folder / "answerability.parquet", index=False)
    with figures("rerank_eval") as folder:
        write_json(folder / "metrics.json", metrics)
        write_csv(curve, folder / "recall_at_k.csv")
        write_json(folder / "answerability.json", answerability_metrics(judged, answerability, params.risk, seed))
        for name, table in selective_curves(judged[judged.split == answer.split], seed).items():
            write_csv(table, folder / f"{name}.csv")
    return {"latency": times}


if __name__ == "__main__":
    run("rerank_eval", main)
