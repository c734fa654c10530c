"""The time that one query takes."""

import time
from collections.abc import Callable

import numpy as np


def measure_latency(search: Callable, queries: np.ndarray | list) -> dict[str, float]:
    """Measure the time of a search, one query at a time.

    Parameters
    ----------
    search : called with a slice of ``queries`` that holds one query.
    queries : vectors or texts. The first tenth is searched once more before the clock starts.

    Returns
    -------
    ``queries``, their number, ``queries_per_second``, and the median ``p50_ms`` and the 95th percentile ``p95_ms`` in
    milliseconds per query.
    """
    for place in range(len(queries) // 10):
        search(queries[place : place + 1])
    seconds = []
    for place in range(len(queries)):
        started = time.perf_counter()
        search(queries[place : place + 1])
        seconds.append(time.perf_counter() - started)
    p50, p95 = np.percentile(seconds, [50, 95]) * 1000
    return {"queries": len(seconds), "queries_per_second": len(seconds) / sum(seconds), "p50_ms": p50, "p95_ms": p95}
