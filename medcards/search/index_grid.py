"""HNSW settings compared: the recall of each, its speed, and the setting that is served."""

import itertools
import logging
import time
from collections.abc import Callable
from functools import partial
from typing import Annotated, Literal

import numpy as np
import pandas as pd
from pydantic import Field, PositiveInt
from threadpoolctl import threadpool_limits
from tqdm import tqdm

from medcards.base.parallel import side_by_side
from medcards.base.params import Block
from medcards.base.stacked import Rows
from medcards.base.stats import Bootstrap
from medcards.search.exact import exact_search
from medcards.search.index import ENGINES
from medcards.search.latency import measure_latency
from medcards.search.vector_index import RECALL_DEPTH, VectorIndex, recall_per_query

log = logging.getLogger(__name__)

MEASURED_QUERIES = 2000
"""Largest number of queries of a split that recall is measured on, as a seeded sample."""
TIMED_QUERIES = 200
"""Number of queries that every setting is timed on."""
RECALL_MEASURE = f"recall@{RECALL_DEPTH}"


class IndexParams(Block):
    """The block ``index`` of params.yaml: the engine, the grid of HNSW settings, and the recall to reach."""

    engine: Literal[*ENGINES]
    m: list[Annotated[int, Field(ge=2)]] = Field(min_length=1)
    ef_construction: list[PositiveInt] = Field(min_length=1)
    # A search finds no more rows than the search list holds.
    ef_search: list[Annotated[int, Field(ge=RECALL_DEPTH)]] = Field(min_length=1)
    target_recall: float = Field(gt=0, le=1)


def build_indexes(vectors: Rows, params: IndexParams, seed: int) -> tuple[dict[tuple, VectorIndex], pd.DataFrame]:
    """Build an index for every pair of ``m`` and ``ef_construction``, one thread each.

    Indexes of hnswlib are built side by side on the cores, those of LanceDB one after the other.

    Returns
    -------
    indexes : the indexes, by (m, ef_construction).
    builds : one row per index: ``m``, ``ef_construction``, ``build_seconds`` (beside the others, if they are built side
        by side) and ``bytes``.
    """
    engine = ENGINES[params.engine]

    def build(setting: tuple[int, int]) -> tuple[VectorIndex, float]:
        started = time.perf_counter()
        return engine.build(vectors, *setting, seed), time.perf_counter() - started

    settings = list(itertools.product(sorted(set(params.m)), sorted(set(params.ef_construction))))
    slow_first = settings[::-1]
    calls, title = [partial(build, setting) for setting in slow_first], "HNSW builds"
    if engine.builds_at_once:
        done = side_by_side(calls, title, threads=True)
    else:
        done = [call() for call in tqdm(calls, desc=title)]
    built = dict(zip(slow_first, done, strict=True))
    builds = [
        {"m": m, "ef_construction": ef, "build_seconds": built[m, ef][1], "bytes": built[m, ef][0].bytes}
        for m, ef in settings
    ]
    return {setting: built[setting][0] for setting in settings}, pd.DataFrame(builds)


def index_recall(
    index: VectorIndex, ef_search: int, queries: np.ndarray, exact: np.ndarray, bootstrap: Bootstrap
) -> dict[str, float]:
    """Recall of an index against exact search.

    Parameters
    ----------
    queries : unit vectors, shape (queries, dimension).
    exact : similarities of the exact nearest rows of each query, shape (queries, :data:`RECALL_DEPTH`).

    Returns
    -------
    ``mean``, ``lo``, ``hi`` and ``n`` of the mean recall, and ``p5``, the 5th percentile over the queries.
    """
    values = recall_per_query(index.search(queries, RECALL_DEPTH, ef_search)[1], exact)
    return bootstrap.interval(values) | {"p5": float(np.percentile(values, 5))}


def recall_grid(
    indexes: dict[tuple, VectorIndex],
    ef_search: list[int],
    queries: np.ndarray,
    exact: np.ndarray,
    bootstrap: Bootstrap,
) -> pd.DataFrame:
    """:func:`index_recall` of every setting: one row per ``m``, ``ef_construction`` and ``ef_search``."""
    searched = sorted(set(ef_search))

    def recalls(index: VectorIndex) -> list[dict[str, float]]:  # one thread at a time may set the ef_search of an index
        return [index_recall(index, ef, queries, exact, bootstrap) for ef in searched]

    done = side_by_side([partial(recalls, index) for index in indexes.values()], "HNSW recall", threads=True)
    found = dict(zip(indexes, done, strict=True))
    return pd.DataFrame(
        {"m": m, "ef_construction": ef_construction, "ef_search": ef} | found[m, ef_construction][place]
        for place, ef in enumerate(searched)
        for m, ef_construction in indexes
    )


def recall_metrics(recall: dict[str, float]) -> dict[str, object]:
    """What :func:`index_recall` returns, or a row of :func:`recall_grid`, under the names of a metrics file."""
    interval = {name: recall[name] for name in ("mean", "lo", "hi", "n")}
    return {RECALL_MEASURE: interval, f"{RECALL_MEASURE}_p5": recall["p5"]}


def grid_metrics(grid: pd.DataFrame) -> dict[str, dict]:
    """:func:`recall_metrics` of every setting, by a name such as ``m 8, ef_construction 100, ef_search 10``."""
    return {
        f"m {row['m']}, ef_construction {row['ef_construction']}, ef_search {row['ef_search']}": recall_metrics(row)
        for row in grid.to_dict("records")
    }


def choose_setting(grid: pd.DataFrame, target: float) -> int:
    """The row of the setting with the smallest ef_search, then m, then ef_construction, that reaches the target.

    If no setting reaches it, a warning is logged, and those of the highest recall remain.

    Parameters
    ----------
    grid : see :func:`recall_grid`.
    target : the mean recall to reach.
    """
    best = grid["mean"].max()
    if best < target:
        log.warning(
            "no setting reaches %s %s: the best has %.4f and is served; add larger values to index.ef_search or "
            "index.m",
            *(RECALL_MEASURE, target, best),
        )
    enough = grid[grid["mean"] >= min(target, best)]
    return int(enough.sort_values(["ef_search", "m", "ef_construction"]).index[0])


def time_settings(
    indexes: dict[tuple, VectorIndex], grid: pd.DataFrame, vectors: Rows, queries: np.ndarray
) -> tuple[pd.DataFrame, dict[str, float]]:
    """Measure the speed of every setting and of exact search, for the :data:`RECALL_DEPTH` nearest.

    hnswlib and exact search have one thread. LanceDB has threads of its own.

    Parameters
    ----------
    queries : unit vectors, of which the first :data:`TIMED_QUERIES` are searched.

    Returns
    -------
    timed : the grid with the columns of :func:`measure_speed`.
    exact : the same figures of exact search.
    """
    queries = queries[:TIMED_QUERIES]
    with threadpool_limits(1):
        exact = measure_speed(partial(exact_search, vectors=vectors, k=RECALL_DEPTH), queries)
        times = []
        for row in tqdm(grid.itertuples(), desc="HNSW speed", total=len(grid)):
            search = partial(indexes[row.m, row.ef_construction].search, k=RECALL_DEPTH, ef_search=row.ef_search)
            times.append(measure_speed(search, queries))
    return grid.join(pd.DataFrame(times)), exact


def measure_speed(search: Callable, queries: np.ndarray) -> dict[str, float]:
    """Measure a search one query at a time, and once on all queries.

    Returns
    -------
    what :func:`medcards.search.latency.measure_latency` returns, and ``queries_per_second_in_batch``.
    """
    speed = measure_latency(search, queries)
    started = time.perf_counter()
    search(queries)
    return speed | {"queries_per_second_in_batch": len(queries) / (time.perf_counter() - started)}


def speed_frontier(timed: pd.DataFrame) -> pd.DataFrame:
    """The settings that no other setting beats in both recall and speed, by rising recall."""
    fastest = timed.sort_values(["queries_per_second", "mean"], ascending=False)
    return fastest[fastest["mean"] > fastest["mean"].cummax().shift(fill_value=-1)]


def served_speed(timed: pd.DataFrame, served: int, exact: dict[str, float]) -> dict[str, dict]:
    """The speed of the served setting and of exact search, and their ratios: one at a time, and both in batch.

    Parameters
    ----------
    timed, exact : see :func:`time_settings`; ``timed`` with ``build_seconds``.
    served : row of the served setting.
    """
    speed = timed.loc[served, [*exact, "build_seconds"]].to_dict()
    ratios = {
        "hnsw_to_exact": speed["queries_per_second"] / exact["queries_per_second"],
        "hnsw_to_exact_in_batch": speed["queries_per_second_in_batch"] / exact["queries_per_second_in_batch"],
    }
    return {"hnsw": speed, "exact": exact, "ratios": ratios}
