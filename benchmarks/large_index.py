"""Recall, speed, memory and size of both index engines on a million vectors.

    python -m benchmarks.large_index
    python -m benchmarks.large_index --rows 100000 --ef-search 50 100

Run it in the root folder after `dvc repro`: it reads the vectors of the finished run. It writes
benchmarks/large_index.md.

A made vector is a weighted mean, of length 1, of four of the answers' vectors: those of a random answer and three of
its 100 nearest others. The weights are drawn from a Dirichlet distribution. The queries are the questions of the
deck's validation and test cards. Building and searching are measured in processes of their own, with the setting
MALLOC_ARENA_MAX=2 of the GNU C library, unless it has another value. The clock measures one query at a time.
"""

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.made_decks import mixed, nearest_others
from benchmarks.material import Deck, blocks
from benchmarks.run import FOLDER, at_least_one, in_own_process
from medcards import InputError
from medcards.base.cost import peak_memory
from medcards.base.scratch import scratch_root
from medcards.search.exact import exact_search
from medcards.search.index import ENGINES, load_index
from medcards.search.latency import measure_latency
from medcards.search.vector_index import RECALL_DEPTH, recall_per_query
from medcards.search.vectors import Vectors

BLOCK, QUERIES = 20_000, 1000


def make_material(rows: int, folder: Path) -> None:
    """Write made vectors, queries, and the similarities of the exact neighbours of the queries."""
    (seed,) = blocks()
    deck, random = Deck(seed), np.random.default_rng(seed)
    real = np.array(deck.vectors.answers)
    near = nearest_others(real)
    made = np.lib.format.open_memmap(folder / "answers.npy", mode="w+", dtype=np.float32, shape=(rows, real.shape[1]))
    for start in range(0, rows, BLOCK):
        block = made[start : start + BLOCK]
        block[:] = mixed(real, near, random.integers(len(real), size=len(block)), random)
    asked = [deck.questions(QUERIES // 2, split).card_id for split in ("validation", "test")]
    queries = np.concatenate([deck.vectors.questions_of(ids) for ids in asked])
    best = [
        exact_search(queries, made[start : start + 10 * BLOCK], RECALL_DEPTH)[1] for start in range(0, rows, 10 * BLOCK)
    ]
    np.savez(folder / "queries.npz", queries=queries, exact=-np.sort(-np.concatenate(best, axis=1))[:, :RECALL_DEPTH])


def made_vectors(folder: Path) -> Vectors:
    """The made vectors, which stay on disk."""
    made = np.load(folder / "answers.npy", mmap_mode="r")
    vectors = Vectors(None, made, None, None, None, None, max_tokens=0)
    vectors.fingerprint = str(len(made))  # the vectors are not read for it
    return vectors


def build(engine: str, m: int, ef_construction: int, folder: Path) -> dict[str, float]:
    """Build an index with one thread and write it."""
    vectors, started = made_vectors(folder), time.perf_counter()
    index = ENGINES[engine].build(vectors.answers, m, ef_construction, seed=0)
    minutes = (time.perf_counter() - started) / 60
    index.save(folder / engine, vectors)
    return {"build_minutes": minutes, "build_memory_mb": peak_memory() / 1e6, "megabytes": index.bytes / 1e6}


def search(engine: str, ef_search: int, folder: Path) -> dict[str, float]:
    """Recall and latency of a saved index."""
    vectors, asked = made_vectors(folder), dict(np.load(folder / "queries.npz"))
    index = load_index(folder / engine, vectors)
    index.ef_search = ef_search
    # One query at a time: LanceDB takes hundreds of megabytes for many queries at once.
    found = np.concatenate([index.search(query[None], RECALL_DEPTH)[1] for query in asked["queries"]])
    speed = measure_latency(lambda query: index.search(query, RECALL_DEPTH), asked["queries"])
    return {
        "recall": float(recall_per_query(found, asked["exact"]).mean()),
        "memory_mb": peak_memory() / 1e6,
        **{name: speed[name] for name in ("p50_ms", "p95_ms")},
    }


def measure(given: argparse.Namespace, folder: Path) -> list[str]:
    """The rows of the table."""
    in_own_process(make_material, given.rows, folder)
    lines = []
    for engine in reversed(ENGINES):
        built = in_own_process(build, engine, given.m, given.ef_construction, folder)
        for ef_search in given.ef_search:
            found = in_own_process(search, engine, ef_search, folder)
            lines.append(
                f"| {engine} | {ef_search} | {found['recall']:.4f} | {found['p50_ms']:.1f} | {found['p95_ms']:.1f} | "
                f"{found['memory_mb']:,.0f} | {built['build_minutes']:.1f} | {built['build_memory_mb']:,.0f} | "
                f"{built['megabytes']:,.0f} |"
            )
            print(lines[-1], file=sys.stderr, flush=True)
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.large_index",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--rows", type=at_least_one, default=1_000_000, help="number of vectors (default 1000000)")
    parser.add_argument("--m", type=at_least_one, default=16, help="links per node (default 16)")
    parser.add_argument(
        "--ef-construction", type=at_least_one, default=200, help="search list of the build (default 200)"
    )
    parser.add_argument("--ef-search", type=at_least_one, nargs="+", default=[20, 50, 100, 200], help="search lists")
    given = parser.parse_args()
    os.environ.setdefault("MALLOC_ARENA_MAX", "2")  # read when a process starts
    try:
        work = scratch_root() / "large_index"
        work.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=work) as folder:
            lines = measure(given, Path(folder))
    except InputError as error:
        sys.exit(f"large_index: {error}")
    from benchmarks.measure import gemm_rates
    from benchmarks.page import machine

    heads = [
        "engine",
        "ef_search",
        "recall@10",
        "p50 (ms)",
        "p95 (ms)",
        "memory (MB)",
        "build (min)",
        "build memory (MB)",
        "size (MB)",
    ]
    what = f"{given.rows:,} vectors, m {given.m}, ef_construction {given.ef_construction}."
    page = [
        "# A large index",
        "",
        "Written by `python -m benchmarks.large_index`.",
        "",
        *__doc__.strip().split("\n\n")[-1:],
    ]
    page += [
        "",
        *machine(gemm_rates()),
        "",
        what,
        "",
        f"| {' | '.join(heads)} |",
        f"|---|{'---:|' * (len(heads) - 1)}",
        *lines,
    ]
    (FOLDER / "large_index.md").write_text("\n".join(page) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
