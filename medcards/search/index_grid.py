"""HNSW settings side by side: what each misses, how fast it is, and which one is served."""

import itertools
import time
from typing import Annotated

import numpy as np
import pandas as pd
from pydantic import Field, PositiveInt
from threadpoolctl import threadpool_limits
from tqdm import tqdm

from medcards import InputError
from medcards.base.params import Block
from medcards.base.stats import Bootstrap
from medcards.search.index import HnswIndex, K, exact_search, latency, recall_per_query

TIMED = 500
RECALL = f"recall@{K}"


class IndexParams(Block):
    """The grid of HNSW settings (Malkov and Yashunin, 2018) and the recall to reach, see params.yaml."""

    m: list[Annotated[int, Field(ge=2)]] = Field(min_length=1)
    ef_construction: list[PositiveInt] = Field(min_length=1)
    ef_search: list[Annotated[int, Field(ge=K)]] = Field(
        min_length=1
    )  # hnswlib finds no more than its search list holds
    target_recall: float = Field(gt=0, le=1)


def build_all(vectors: np.ndarray, params: IndexParams, seed: int) -> tuple[dict[tuple, HnswIndex], pd.DataFrame]:
    """An index for every (m, ef_construction), and a table of the seconds and bytes that each took."""
    indexes, builds = {}, []
    settings = list(itertools.product(sorted(set(params.m)), sorted(set(params.ef_construction))))
    for m, ef_construction in tqdm(settings, desc="HNSW builds"):
        started = time.perf_counter()
        index = indexes[m, ef_construction] = HnswIndex.build(vectors, m, ef_construction, seed)
        took = {"build_seconds": time.perf_counter() - started, "bytes": index.bytes}
        builds.append({"m": m, "ef_construction": ef_construction} | took)
    return indexes, pd.DataFrame(builds)


def recall(index: HnswIndex, ef_search: int, queries: np.ndarray, exact: np.ndarray, bootstrap: Bootstrap) -> dict:
    """Recall against exact search: its mean with interval, and its 5th percentile over the queries."""
    values = recall_per_query(index.search(queries, K, ef_search)[0], exact)
    return {RECALL: bootstrap.interval(values), f"{RECALL}_p5": float(np.percentile(values, 5))}


def choose(grid: pd.DataFrame, target: float) -> pd.Series:
    """The setting with the smallest ef_search, then m, then ef_construction, whose recall reaches the target.

    Parameters
    ----------
    grid : table with the columns ``m``, ``ef_construction``, ``ef_search`` and ``mean``, the mean recall.

    Raises
    ------
    InputError : none reaches it.
    """
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
        times = []
        for row in tqdm(grid.itertuples(), desc="HNSW speed", total=len(grid)):
            index, ef_search = indexes[row.m, row.ef_construction], row.ef_search
            times.append(latency(lambda query, index=index, ef=ef_search: index.search(query, K, ef), queries))
    return grid.join(pd.DataFrame(times)), exact


def frontier(timed: pd.DataFrame) -> pd.DataFrame:
    """The settings that no other one beats in recall and in speed, by rising recall."""
    fastest = timed.sort_values(["queries_per_second", "mean"], ascending=False)
    return fastest[fastest["mean"] > fastest["mean"].cummax().shift(fill_value=-1)]
