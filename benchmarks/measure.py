"""Several ways to do the same work, timed in turns in one process and compared with the machine's limit."""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import torch

from medcards.base.matmul import prefer_onednn

THREADS = torch.get_num_threads()
"""Number of threads that PyTorch takes by itself."""
GEMM_SIZE, GEMM_PRODUCTS = 2048, 5
"""Size of the square matrices whose product measures the machine's limit, and number of timed products."""


@dataclass
class Way:
    """One way to do a piece of work.

    Parameters
    ----------
    run : does the work. It gets what ``prepare`` returned.
    prepare : makes what ``run`` needs, such as a newly loaded model. It is called before every run and is not timed.
    ours : whether the pipeline works this way. Then float32 matrices are multiplied as the pipeline does it, else with
        PyTorch's defaults.
    """

    run: Callable[[object], object]
    prepare: Callable[[], object] = lambda: None
    ours: bool = False


@dataclass
class Benchmark:
    """A piece of work, and several ways to do it.

    Parameters
    ----------
    title : what is done.
    work : the input, in words.
    ways : the ways by name. The first is the plain way that the others are compared with.
    quality : figures that compare a way's result with that of the plain way, by name.
    amount, unit : size of the input, such as 90,000 ``tokens``; padding is not counted.
    flops : from the plain way's result to the floating-point operations that the work needs, without padding.
    """

    title: str
    work: str
    ways: dict[str, Way]
    quality: Callable[[object, object], dict[str, str]] = lambda plain, other: {}
    amount: float = 0
    unit: str = ""
    flops: Callable[[object], float] = lambda plain: 0


@dataclass
class Measured:
    """The times of one way of a benchmark, in seconds, and its quality."""

    benchmark: str
    work: str
    way: str
    seconds: list[float]
    plain_seconds: list[float]
    quality: dict[str, str]
    amount: float = 0
    unit: str = ""
    flops: float = 0
    limits: dict[str, float] = field(default_factory=dict)

    @property
    def median(self) -> float:
        """The median time in seconds."""
        return statistics.median(self.seconds)

    @property
    def ratio(self) -> float:
        """The median time of the plain way, as a multiple of this way's."""
        return statistics.median(self.plain_seconds) / self.median

    @property
    def share_of_limit(self) -> float:
        """The rate of floating-point operations, as a share of the machine's best rate."""
        return self.flops / self.median / max(self.limits.values())


def measure(
    benchmark: Benchmark,
    repeats: int,
    limits: dict[str, float],
    clock: Callable[[], float] = time.perf_counter,
) -> list[Measured]:
    """Run every way ``repeats`` times, in turns, and compare the results with those of the plain way.

    Parameters
    ----------
    limits : see :func:`gemm_rates`.
    clock : returns the time in seconds.

    Returns
    -------
    one entry per way, in the order of the ways. The quality is that of the last run.
    """
    seconds, results = {name: [] for name in benchmark.ways}, {}
    for _ in range(repeats):
        for name, way in benchmark.ways.items():
            results.pop(name, None)  # the memory of the last run
            set_matmul(way.ours)
            prepared = way.prepare()
            started = clock()
            results[name] = way.run(prepared)
            seconds[name].append(clock() - started)
            del prepared
    set_matmul(ours=False)
    plain = next(iter(benchmark.ways))
    facts = {name: getattr(benchmark, name) for name in ("work", "amount", "unit")}
    facts |= {"flops": benchmark.flops(results[plain]), "limits": limits}
    measured = []
    for name in benchmark.ways:
        quality = {} if name == plain else benchmark.quality(results[plain], results[name])
        times = {"seconds": seconds[name], "plain_seconds": seconds[plain]}
        measured.append(Measured(benchmark.title, way=name, quality=quality, **times, **facts))
    return measured


def set_matmul(ours: bool) -> None:
    """Multiply float32 matrices as the pipeline does it, or with PyTorch's defaults."""
    torch.set_num_threads(THREADS)
    if ours:
        prefer_onednn()
    else:
        torch.backends.mkldnn.matmul.fp32_precision = "ieee"


def gemm_rates() -> dict[str, float]:
    """The rate of float32 matrix products, with PyTorch's defaults and as the pipeline multiplies.

    Returns
    -------
    floating-point operations per second: ``default`` and ``ours``.
    """
    device = "cuda" if torch.cuda.is_available() else "cpu"
    one, rates = torch.ones(GEMM_SIZE, GEMM_SIZE, device=device), {}
    for name in ("default", "ours"):
        set_matmul(name == "ours")
        seconds = []
        for _ in range(GEMM_PRODUCTS):
            started = time.perf_counter()
            (one @ one)[0, 0].item()  # waits for a GPU
            seconds.append(time.perf_counter() - started)
        rates[name] = 2 * GEMM_SIZE**3 / statistics.median(seconds)
    return rates
