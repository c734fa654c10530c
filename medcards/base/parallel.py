"""Independent computations, side by side on the cores."""

from collections.abc import Callable

from tqdm import tqdm

WORKERS = 8
"""Largest number of calls that run at a time. Each process holds the libraries and its data in memory."""


def side_by_side(calls: list[Callable], title: str, threads: bool = False) -> list:
    """The results of several calls without arguments, in their order (library: joblib).

    One call runs per core. Each call uses one thread for itself, so its result is the same on every number of cores.
    Put slow calls first, so that no core waits for a slow one in the end.

    Parameters
    ----------
    title : what the progress bar says.
    threads : run the calls in threads of this process. Fast only where the calls spend their time in a library that
        releases Python's global lock. Other calls run in processes of their own, with a copy of their arguments.

    Examples
    --------
    >>> from functools import partial
    >>> side_by_side([partial(pow, 2, 3), partial(pow, 2, 4)], "powers", threads=True)
    [8, 16]
    """
    from joblib import Parallel, cpu_count, delayed, parallel_config
    from threadpoolctl import threadpool_limits

    place = {"backend": "threading"} if threads else {"backend": "loky", "inner_max_num_threads": 1}
    with parallel_config(**place), threadpool_limits(1 if threads else None):
        done = Parallel(n_jobs=min(cpu_count(), WORKERS), return_as="generator")(delayed(call)() for call in calls)
        return list(tqdm(done, desc=title, total=len(calls), delay=1))
