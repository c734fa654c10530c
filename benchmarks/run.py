"""Time the pipeline's code against the plain way. A run of all benchmarks writes benchmarks/results.md.

    python -m benchmarks.run
    python -m benchmarks.run embed scoring --cards 500 --repeats 1

Run it in the root folder after `dvc repro`: the benchmarks read data/ and params.yaml. The plain way is what a notebook
does: the library's functions with their defaults. All ways of a benchmark get the same input and run in turns in one
process. The table holds medians and ratios. "of the limit" is the rate of the floating-point operations that the input
needs, without padding, as a share of the rate of matrix products in the same process.
"""

import argparse
import ast
import importlib
import os
import signal
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

FOLDER = Path(__file__).parent
BENCHMARKS = (
    *("near_duplicates", "embed", "topics", "index", "adaptation", "reranker_training", "scoring"),
    *("finetuning", "answers", "start_up"),
)
RESULTS = FOLDER / "results.md"


def summaries() -> str:
    """The first line of every benchmark's docstring. No benchmark is imported, so that the help comes at once."""
    lines = ["benchmarks:"]
    for name in BENCHMARKS:
        text = ast.get_docstring(ast.parse((FOLDER / f"{name}.py").read_text(encoding="utf-8")))
        lines.append(f"  {name:<18} {text.splitlines()[0]}")
    return "\n".join(lines)


def run_benchmark(name: str, cards: int | None, repeats: int) -> tuple[list, dict[str, float]]:
    """The measured ways of a benchmark, and the rates of matrix products before it."""
    from joblib.externals.loky import get_reusable_executor

    from benchmarks.measure import gemm_rates, measure

    module = importlib.import_module(f"benchmarks.{name}")
    rates = gemm_rates()
    found = [measure(benchmark, repeats, rates) for benchmark in module.benchmarks(cards or module.CARDS)]
    get_reusable_executor().shutdown()  # joblib's processes would keep this one alive for five minutes
    return [one for ways in found for one in ways], rates


def in_own_process(function, *arguments: object) -> object:
    """The result of a function that runs in a new process, which frees its memory and leaves no setting behind."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


def run_stage(name: str, folder: Path, timeout: float | None = None, **variables: str) -> str:
    """Run a stage as `dvc repro` does: in a process of its own, with the data and the parameters of a folder.

    Parameters
    ----------
    timeout : seconds that it may take.
    variables : of its environment, beside those of this process.

    Returns
    -------
    what it logged.

    Raises
    ------
    InputError : it fails, with the end of its message.
    MemoryError : the system kills it.
    subprocess.TimeoutExpired : it takes longer.
    """
    environment = os.environ | {"PYTHONPATH": str(FOLDER.parent)} | variables
    command = [sys.executable, "-m", f"stages.{name}"]
    ended = subprocess.run(command, cwd=folder, env=environment, timeout=timeout, capture_output=True, text=True)
    if ended.returncode == -signal.SIGKILL:
        raise MemoryError(f"the stage {name} is killed on the deck of {folder.name}")
    if ended.returncode:
        from medcards import InputError

        raise InputError(f"the stage {name} fails on the deck of {folder.name}: {ended.stderr.strip()[-300:]}")
    return ended.stderr


def at_least_one(text: str) -> int:
    """A whole number of 1 or more, as a type of argparse."""
    if (number := int(text)) < 1:
        raise argparse.ArgumentTypeError(f"{number}: at least 1")
    return number


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.run",
        description=__doc__,
        epilog=summaries(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="the benchmarks to run (default: all)")
    parser.add_argument("--cards", type=at_least_one, help="size of the input (default: each benchmark's own)")
    parser.add_argument("--repeats", type=at_least_one, default=3, help="runs of every way (default 3)")
    given = parser.parse_args()
    if unknown := set(given.names) - set(BENCHMARKS):
        parser.error(f"no such benchmark: {', '.join(sorted(unknown))}; benchmarks: {', '.join(BENCHMARKS)}")
    os.environ.setdefault("TQDM_DISABLE", "1")  # for the processes that are started below
    from benchmarks.page import machine, results_table
    from medcards import InputError

    measured, rates = [], {}
    try:
        for name in given.names or BENCHMARKS:
            ways, rates = in_own_process(run_benchmark, name, given.cards, given.repeats)
            print("\n".join(results_table(ways)[2 if measured else 0 :]), flush=True)
            measured += ways
    except InputError as error:
        sys.exit(f"benchmarks: {error}")
    if given.names or given.cards:
        return
    origin = f"Written by `python -m benchmarks.run --repeats {given.repeats}`: medians of the runs of every way."
    page = ["# Benchmarks", "", origin, "", *machine(rates), "", *results_table(measured)]
    RESULTS.write_text("\n".join(page) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
