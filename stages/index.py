"""index: build HNSW indexes over the answers, measure what each misses, and keep the one that is served.

Served is the setting with the smallest ef_search, then M, then ef_construction, whose recall on the validation
questions reaches index.target_recall; no clock has a say in it. What the clock says goes to the cost file and to
plots/cost.

reads   data/cards, data/embeddings
writes  data/index, metrics/index.json, plots/index, plots/cost/index
"""

import itertools
import time

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from threadpoolctl import threadpool_limits
from tqdm import tqdm

from medcards import InputError
from medcards import cards as card_tables
from medcards.ann import HnswIndex, IndexParams, K, exact_search, latency, recall_per_query
from medcards.encoder import Embeddings
from medcards.figures import save
from medcards.files import atomic, write_json
from medcards.params import Seed
from medcards.stats import Bootstrap
from stages import DATA, METRICS, PLOTS, load_params, run

RECALL = f"recall@{K}"
TIMED = 500


def build_all(vectors: np.ndarray, params: IndexParams, seed: int) -> tuple[dict[tuple, HnswIndex], pd.DataFrame]:
    """An index for every (M, ef_construction), and a table of what each took."""
    indexes, builds = {}, []
    settings = list(itertools.product(sorted(params.m), sorted(params.ef_construction)))
    for m, ef_construction in tqdm(settings, desc="HNSW builds"):
        started = time.perf_counter()
        indexes[m, ef_construction] = HnswIndex.build(vectors, m, ef_construction, seed)
        builds.append({"m": m, "ef_construction": ef_construction, "build_seconds": time.perf_counter() - started})
    return indexes, pd.DataFrame(builds)


def measure(indexes: dict, ef_searches: list[int], queries: np.ndarray, exact: np.ndarray, bootstrap) -> pd.DataFrame:
    """Recall against exact search: mean with interval, and 5th percentile over queries; one row a setting."""
    rows = []
    for ef_search in tqdm(sorted(ef_searches), desc="HNSW recall"):
        for (m, ef_construction), index in indexes.items():
            recall = recall_per_query(index.search(queries, K, ef_search)[0], exact)
            setting = {"m": m, "ef_construction": ef_construction, "ef_search": ef_search}
            rows.append(setting | bootstrap.interval(recall) | {"p5": float(np.percentile(recall, 5))})
    return pd.DataFrame(rows)


def choose(grid: pd.DataFrame, target: float) -> pd.Series:
    """The cheapest setting that reaches the target."""
    enough = grid[grid["mean"] >= target]
    if enough.empty:
        raise InputError(
            f"no setting reaches {RECALL} {target} (the best has {grid['mean'].max():.4f}): add larger values to "
            "index.ef_search or index.m, or lower index.target_recall"
        )
    return enough.sort_values(["ef_search", "m", "ef_construction"]).iloc[0]


def time_all(indexes: dict, grid: pd.DataFrame, vectors: np.ndarray, queries: np.ndarray) -> tuple[pd.DataFrame, dict]:
    """Queries a second of every setting and of exact search, on one thread, the top 10 included."""
    queries = queries[:TIMED]
    with threadpool_limits(1):
        exact = latency(lambda query: exact_search(query, vectors, K), queries)
        started = time.perf_counter()
        exact_search(queries, vectors, K)
        exact["queries_per_second_in_batch"] = len(queries) / (time.perf_counter() - started)
        rows = []
        for setting in tqdm(grid.itertuples(), desc="HNSW speed", total=len(grid)):
            index = indexes[setting.m, setting.ef_construction]
            rows.append(
                latency(lambda query, setting=setting, index=index: index.search(query, K, setting.ef_search), queries)
            )
    return pd.concat([grid, pd.DataFrame(rows)], axis=1), exact


def setting_name(row: pd.Series) -> str:
    """A setting as the metrics name it."""
    return f"m {row.m:.0f}, ef_construction {row.ef_construction:.0f}, ef_search {row.ef_search:.0f}"


def recall_of(row: pd.Series) -> dict:
    """A setting's recall as the metrics hold it."""
    interval = {"mean": row["mean"], "lo": row.lo, "hi": row.hi, "n": int(row.n)}
    return {RECALL: interval, f"{RECALL}_p5": row.p5}


def plot(data: pd.DataFrame, x: str, y: str, served: pd.Series, axes: plt.Axes) -> None:
    """A line for every (M, ef_construction); the served setting is ringed."""
    for (m, ef_construction), rows in data.groupby(["m", "ef_construction"]):
        axes.plot(rows[x], rows[y], marker="o", label=f"M {m}, ef_construction {ef_construction}")
    axes.plot(data[x][served.name], data[y][served.name], "o", ms=14, mfc="none", mec="black", label="served")
    axes.legend(loc="upper left", bbox_to_anchor=(1, 1))


def main() -> dict:
    seed, params = load_params(seed=Seed, index=IndexParams)
    cards = card_tables.load(DATA / "cards")
    embeddings = Embeddings.load(DATA / "embeddings", cards)
    vectors = embeddings.answers
    asked = cards[(cards.split == "validation") & (cards.query_set == "own")]
    queries = embeddings.questions_of(asked.card_id)
    exact, _ = exact_search(queries, vectors, K)

    indexes, builds = build_all(vectors, params, seed)
    grid = measure(indexes, params.ef_search, queries, exact, Bootstrap(asked.group, seed))
    served = choose(grid, params.target_recall)
    index = indexes[served.m, served.ef_construction]
    index.ef_search = int(served.ef_search)
    timed, exact_speed = time_all(indexes, grid, vectors, queries)
    timed = timed.merge(builds, on=["m", "ef_construction"])
    timed["bytes"] = [indexes[row.m, row.ef_construction].bytes for row in grid.itertuples()]

    with atomic(DATA / "index") as folder:
        index.save(folder)
    with atomic(PLOTS / "index") as folder:
        figure, axes = plt.subplots(figsize=(6, 4))
        plot(grid, "ef_search", "mean", served, axes)
        axes.set(xlabel="ef_search", ylabel=f"{RECALL} against exact search", xscale="log")
        axes.set_xticks(sorted(params.ef_search), sorted(params.ef_search))
        save(figure, grid, folder / "recall.png")
    with atomic(PLOTS / "cost" / "index") as folder:
        figure, axes = plt.subplots(figsize=(6, 4))
        plot(timed, "mean", "queries_per_second", served, axes)
        axes.axhline(exact_speed["queries_per_second"], color="gray", linestyle="--")
        axes.set(xlabel=f"{RECALL} against exact search", ylabel="queries/s, one thread", yscale="log")
        axes.set_title("dashed: exact search", fontsize=10)
        save(figure, timed, folder / "frontier.png")

    write_json(
        METRICS / "index.json",
        {
            "grid": {setting_name(row): recall_of(row) for _, row in grid.iterrows()},
            "served": index.settings | recall_of(served) | {"bytes": index.bytes, "answers": len(index)},
        },
    )
    speed = timed.loc[served.name, ["queries_per_second", "p50_ms", "p95_ms", "build_seconds"]].to_dict()
    ratios = {
        "hnsw_to_exact": speed["queries_per_second"] / exact_speed["queries_per_second"],
        "hnsw_to_exact_in_batch": speed["queries_per_second"] / exact_speed["queries_per_second_in_batch"],
    }
    return {"hnsw": speed, "exact": exact_speed, "ratios": ratios}


if __name__ == "__main__":
    run("index", main)
