"""The pages that the benchmarks write: machine, versions, and tables."""

import platform
import subprocess
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

import psutil

from benchmarks.measure import Measured

PACKAGES = (
    *("torch", "transformers", "sentence-transformers", "trl", "peft"),
    *("hnswlib", "datasketch", "gensim", "scikit-learn", "numpy"),
)
ROOT = Path(__file__).parents[1]


def machine(rates: dict[str, float]) -> list[str]:
    """Lines that describe the machine, the versions, the date and the commit.

    Parameters
    ----------
    rates : see :func:`benchmarks.measure.gemm_rates`.
    """
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in PACKAGES)
    memory, gflops = psutil.virtual_memory().total / 2**30, {name: rate / 1e9 for name, rate in rates.items()}
    return [
        f"- machine: {processor()}, {psutil.cpu_count()} cores, {memory:.0f} GiB of memory",
        f"- float32 matrix products: {gflops['default']:.0f} GFLOP/s with PyTorch's defaults, "
        f"{gflops['ours']:.0f} GFLOP/s as the pipeline multiplies; the larger rate is the limit",
        f"- versions: Python {platform.python_version()}, {versions}",
        f"- date: {datetime.now(UTC):%Y-%m-%d}, commit {commit()}",
    ]


def processor() -> str:
    """The name of the processor, and of a GPU if PyTorch finds one."""
    import torch

    names = [platform.processor() or platform.machine()]
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        lines = cpuinfo.read_text(encoding="utf-8").splitlines()
        names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")][:1] or names
    if torch.cuda.is_available():
        names.append(torch.cuda.get_device_name())
    return " and ".join(names)


def commit() -> str:
    """The short name of the commit of this repository, and whether tracked files differ from it."""

    def git(*words: str) -> str:
        return subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()

    return git("rev-parse", "--short", "HEAD") + (" with changes" if git("status", "--porcelain", "-uno") else "")


def results_table(measured: list[Measured]) -> list[str]:
    """One row per way of each benchmark, after a head of two lines."""
    lines = [
        "| work | way | median s | × plain | per second | of the limit | quality against the plain way |",
        "|---|---|---:|---:|---:|---:|---|",
    ]
    for one in measured:
        rate = one.amount / one.median
        rate = f"{rate:,.{0 if rate >= 10 else 1}f} {one.unit}" if one.amount else ""
        share = f"{one.share_of_limit:.0%}" if one.flops else ""
        quality = "; ".join(f"{name} {value}" for name, value in one.quality.items())
        cells = f"{one.benchmark}: {one.work}", one.way, f"{one.median:.2f}", f"{one.ratio:.2f}", rate, share, quality
        lines.append(f"| {' | '.join(cells)} |")
    return lines
