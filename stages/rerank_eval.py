"""rerank_eval: rank the deck's answers for sampled questions with every retrieval system, and score the rankings.

reads   data/cards, data/embeddings, data/index
writes  data/rankings/rankings.parquet, metrics/retrieval.json, plots/retrieval
"""

import pandas as pd

from medcards import cards as card_tables
from medcards.ann import HnswIndex, exact_search
from medcards.encoder import Embeddings
from medcards.figures import interval_bars, save
from medcards.files import atomic, write_json
from medcards.params import Seed
from medcards.reranker import RerankerParams, load_scorer
from medcards.retrieval import DEPTH, Ranking, RerankEvalParams, bm25, rerank, score_ranking, summarise
from medcards.stats import Bootstrap
from stages import DATA, METRICS, PLOTS, load_params, pinned, run

BASELINE = "dense_exact"


def rank_all(
    queries: pd.DataFrame, answers: pd.DataFrame, embeddings: Embeddings, index: HnswIndex, scorer, candidates: int
) -> dict[str, Ranking]:
    """The ranking of every system for the same queries; re-ranked ones where there is a cross-encoder."""
    vectors = embeddings.questions_of(queries.card_id)
    asked, texts = queries.question.tolist(), answers.answer.tolist()
    rankings = {
        "bm25": bm25(asked, texts),
        "dense_exact": exact_search(vectors, embeddings.answers, DEPTH),
        "hnsw": index.search(vectors, DEPTH),
    }
    if scorer:
        rankings["hnsw_rerank"] = rerank(scorer, asked, texts, rankings["hnsw"], candidates)
    return rankings


def long_table(rankings: dict[str, Ranking], queries: pd.DataFrame, answer_ids) -> pd.DataFrame:
    """One row for each (system, query, rank)."""
    tables = []
    for system, (rows, scores) in rankings.items():
        table = pd.DataFrame({"system": system, "query": queries.card_id.repeat(rows.shape[1])})
        table["rank"] = table.groupby("query").cumcount() + 1
        table["answer"], table["score"] = answer_ids[rows.ravel()], scores.ravel()
        tables.append(table[rows.ravel() >= 0])
    return pd.concat(tables)


def plot(summary: dict, folder) -> None:
    """Bars of every measure of every system, on the test split's own questions."""
    rows = [
        {"system": system, "measure": measure} | interval
        for system, measures in summary.items()
        if system != "differences"
        for measure, interval in measures.items()
    ]
    data = pd.DataFrame(rows)
    figure = interval_bars(data, "measure", "system", f"mean over {data.n.max()} test questions, 95% interval")
    figure.axes[0].set(ylim=(0, 1), xlabel="measure")
    save(figure, data, folder / "measures.png")


def main() -> None:
    seed, reranker, params = load_params(seed=Seed, reranker=RerankerParams, rerank_eval=RerankEvalParams)
    scorer = None
    if reranker.model != "none":
        reranker = pinned(reranker, "reranker")
        scorer = load_scorer(reranker)
    cards = card_tables.load(DATA / "cards")
    answers = card_tables.corpus(cards)
    embeddings, index = Embeddings.load(DATA / "embeddings", cards), HnswIndex.load(DATA / "index")

    metrics, tables = {"corpus": len(answers), "reranker": reranker.model}, []
    for split, count in (("validation", params.validation_queries), ("test", params.test_queries)):
        metrics[split] = {}
        for query_set in sorted(set(cards.query_set[cards.split == split]), reverse=True):
            queries = card_tables.sample(cards, split, count, seed, query_set)
            scorer_here = scorer if query_set == "own" else None
            rankings = rank_all(queries, answers, embeddings, index, scorer_here, params.candidates)
            relevant = card_tables.relevant_answers(queries, answers)
            scores = {
                name: score_ranking(rows, relevant, embeddings.answer_ids) for name, (rows, _) in rankings.items()
            }
            metrics[split][query_set] = summarise(scores, Bootstrap(queries.group, seed), BASELINE)
            tables.append(long_table(rankings, queries, embeddings.answer_ids).assign(split=split, query_set=query_set))

    with atomic(DATA / "rankings") as folder:
        folder.mkdir()
        pd.concat(tables).to_parquet(folder / "rankings.parquet", index=False)
    with atomic(PLOTS / "retrieval") as folder:
        plot(metrics["test"]["own"], folder)
    write_json(METRICS / "retrieval.json", metrics)


if __name__ == "__main__":
    run("rerank_eval", main)
