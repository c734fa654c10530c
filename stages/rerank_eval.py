"""rerank_eval: rank the answers for sampled questions with every retrieval system, and score the rankings.

Query sets: the deck's own questions, layperson questions where the source has them, and the own questions with typos,
with words dropped, and in lower case. The weights and the served system are chosen on the validation questions, own and
layperson together. The served system ranks every query set; other systems with a cross-encoder rank the own questions
only. Test questions are ranked where `answer.split` is test, in place of the perturbed validation questions.

On query sets in other words than the deck's own questions, the served system also searches the questions of the cards
(`with_questions`). Users are served so unless the validation questions are ranked measurably worse.

Each question is asked of the deck without its relevant answers too, and a question that is not perturbed of the deck
without its topic. On the validation questions that are not perturbed, a model learns the probability that the deck has
an answer.

reads   data/cards, data/vectors, data/encoder, data/index, data/reranker, data/models/encoder.json
writes  data/rankings: SPLIT-QUERY_SET.parquet of every query set, served.json, answerability.json (the fitted model),
        answerability.parquet (evidence and probabilities)
        data/figures/rerank_eval: metrics.json, recall_at_k.csv (own questions of answer.split), answerability.json,
        risk_coverage.csv and reliability.csv (questions of answer.split)
"""

from functools import partial

import pandas as pd
from tqdm import tqdm

from medcards.base.files import atomic, write_csv, write_json
from medcards.base.manifests import model_folder, read_manifest
from medcards.base.params import Seed
from medcards.base.workers import compute_params
from medcards.deck import cards as card_tables
from medcards.search.answerability import with_probabilities
from medcards.search.cross_encoder import load_scorer, memoised
from medcards.search.encoder import check_encoder, encode_questions, load_encoder
from medcards.search.evaluation import (
    AsksSplit,
    RerankEvalParams,
    measure_rankings,
    ranking_table,
    recall_at_k,
    time_systems,
)
from medcards.search.exported import search_encoder, search_scorer
from medcards.search.index import load_index
from medcards.search.query_sets import QuerySet, query_sets
from medcards.search.ranked_sets import SetRanker
from medcards.search.rankings import rankings_file
from medcards.search.selective import answerability_metrics, selective_curves
from medcards.search.serving import UnadaptedSearch, choose_served, serves_questions
from medcards.search.spelling import Spelling
from medcards.search.systems import Retriever
from medcards.search.vectors import search_vectors
from stages import DATA, figures, load_params, run


def main() -> dict:
    seed, params, answer = load_params(seed=Seed, rerank_eval=RerankEvalParams, answer=AsksSplit)
    compute = compute_params()
    cards = card_tables.load_cards(DATA / "cards")
    answers = card_tables.corpus(cards)
    vectors, model = search_vectors(DATA, cards), load_encoder(model_folder(DATA / "encoder"))
    encoder = partial(encode_questions, model, batch_tokens=params.batch_tokens)
    check_encoder(vectors, encoder, cards)
    ids, index = vectors.answer_ids, load_index(DATA / "index", vectors)
    scorer = load_scorer(DATA / "reranker", params.batch_tokens, compute)
    retriever = Retriever(answers.answer.tolist(), vectors.answers, index, scorer and memoised(scorer))
    sets = query_sets(cards, answers, "validation", params.validation_queries, seed)
    if answer.split == "test":
        sets = [one for one in sets if not one.perturbed]  # those choose nothing
        sets += query_sets(cards, answers, "test", params.test_queries, seed)
    spelling = Spelling([*cards.question, *cards.answer]) if params.spelling else None

    choosing = QuerySet.joined([one for one in sets if one.split == "validation" and not one.perturbed])
    choosing = choosing.spelled(spelling) if spelling else choosing
    asked = choosing.vectors(vectors, encoder)
    served, gain = choose_served(retriever, choosing, asked, ids, params, seed)
    unadapted = UnadaptedSearch.load(DATA, cards, choosing, retriever.bm25, params.batch_tokens)

    metrics = {"corpus": len(answers), "served": served.model_dump(), "split": answer.split}
    if gain:
        metrics["reranking_gain"] = {"mrr@10": gain}
    metrics["reranker"] = {key: read_manifest(DATA / "reranker")[key] for key in ("model", "trained")}
    ranker, ranked = SetRanker(cards, answers, vectors, encoder, retriever, served, spelling), []
    for queries in tqdm(sets, desc="query sets"):
        one = ranker.rank(queries)
        if unadapted:
            one.found |= unadapted.rank(one.queries, one.found["bm25"])
        measured = measure_rankings(one.found, queries, ids, params.candidates, seed)
        metrics.setdefault(queries.split, {})[queries.name] = measured
        ranked.append(one)
    *_, own = (one for one in ranked if one.queries.name == "own")  # of the split that is asked for
    curve = recall_at_k(own.found, own.queries.relevant, ids)
    served = served.model_copy(update={"questions": serves_questions(ranked, served, ids, seed)})
    metrics["served"] = served.model_dump()
    evidence, share = pd.concat([one.evidence for one in ranked], ignore_index=True), params.false_refusals
    judged, answerability = with_probabilities(evidence, share)

    # The clock measures the models that are served. They are exported here, so that the first search starts fast.
    retriever.scorer = search_scorer(DATA / "reranker", threads=1)
    times = time_systems(retriever, search_encoder(DATA / "encoder", threads=1), own.queries.questions, served)
    with atomic(DATA / "rankings") as folder:
        folder.mkdir()
        for one in ranked:
            file = rankings_file(folder, one.queries.split, one.queries.name)
            ranking_table(one.found, one.queries, ids).to_parquet(file, index=False)
        write_json(folder / "served.json", served.model_dump())
        answerability.save(folder)
        judged.to_parquet(folder / "answerability.parquet", index=False)
    with figures("rerank_eval") as folder:
        write_json(folder / "metrics.json", metrics)
        write_csv(curve, folder / "recall_at_k.csv")
        write_json(folder / "answerability.json", answerability_metrics(judged, answerability, share, seed))
        for name, table in selective_curves(judged[judged.split == answer.split], seed).items():
            write_csv(table, folder / f"{name}.csv")
    return {"latency": times}


if __name__ == "__main__":
    run("rerank_eval", main)
