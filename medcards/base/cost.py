"""Seconds and peak memory of a process."""

import sys
import time
from contextlib import suppress

import psutil

STARTED = time.perf_counter()


def cost() -> dict[str, float]:
    """The seconds since this module was imported, and the memory in megabytes.

    ``peak_memory_mb`` is the peak of this process and what its workers hold now.
    """
    workers = 0
    for child in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess):  # it has just ended
            workers += child.memory_info().rss
    seconds = round(time.perf_counter() - STARTED, 1)
    return {"seconds": seconds, "peak_memory_mb": round((peak_memory() + workers) / 1e6)}


def peak_memory() -> int:
    """The largest resident memory of this process so far, in bytes."""
    if sys.platform == "win32":
        return psutil.Process().memory_info().peak_wset
    import resource  # Windows has no such module

    unit = 1 if sys.platform == "darwin" else 1024  # ru_maxrss is in bytes on macOS, in KiB on Linux
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
