"""Seconds and peak memory of a process, and the machine that it ran on."""

import os
import platform
import re
import sys
import time
from contextlib import suppress
from pathlib import Path

import psutil

STARTED = time.perf_counter()


def cost() -> dict[str, object]:
    """The seconds since this module was imported, the memory in megabytes, and the :func:`machine`.

    ``peak_memory_mb`` is the peak of this process and what its workers hold now.
    """
    workers = 0
    for child in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess):  # it has just ended
            workers += child.memory_info().rss
    seconds = round(time.perf_counter() - STARTED, 1)
    return {"seconds": seconds, "peak_memory_mb": round((peak_memory() + workers) / 1e6), "machine": machine()}


def machine() -> dict[str, str | int]:
    """The model of the processor, the number of its cores, the memory in gigabytes, and the device that computed.

    ``device`` is the GPU that this process has used through PyTorch, or ``cpu``.
    """
    torch = sys.modules.get("torch")  # only a stage that computes with it has imported it
    used_gpu = torch is not None and torch.cuda.is_initialized()
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "memory_gb": round(psutil.virtual_memory().total / 1e9),
        "device": torch.cuda.get_device_name() if used_gpu else "cpu",
    }


def _processor() -> str:
    """The model name that Linux knows; elsewhere what Python knows."""
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "model name":
                return value.strip()
    return platform.processor() or platform.machine()


def peak_memory() -> int:
    """The largest resident memory of this process so far, in bytes."""
    with suppress(OSError):  # Linux alone; ``ru_maxrss`` would include the process that started this one
        status = Path("/proc/self/status").read_text(encoding="utf-8")
        if found := re.search(r"^VmHWM:\s*(\d+) kB$", status, re.MULTILINE):
            return int(found[1]) * 1024
    if sys.platform == "win32":
        return psutil.Process().memory_info().peak_wset
    import resource  # Windows has no such module

    unit = 1 if sys.platform == "darwin" else 1024  # ru_maxrss is in bytes on macOS, in KiB elsewhere
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
