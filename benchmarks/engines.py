"""Seconds, processor time and memory of the stages that Ray can share, with Ray and with one process.

    python -m benchmarks.engines
    python -m benchmarks.engines --cards 64000 --embedded 2000

Run it in the root folder after `dvc repro`, on a machine that does nothing else: it reads data/ and params.yaml. It
writes benchmarks/engines.md, and takes about 40 minutes.

Each stage runs as `dvc repro` runs it, in a process of its own with two threads of computation: one process with two
threads, or two workers of Ray with one thread each. Processor time and memory are those of the whole machine, less
what it used before. The batches are those that the workers read. The first table is the default deck, whose results
with Ray are compared with those of one process. Two systems answer there, in smaller batches than by default, because
workers read no fewer than 20 batches. The second table is a large deck, see benchmarks/growth.md, whose vectors are
made; embed encodes a smaller deck.
"""

import argparse
import re
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
from ruamel.yaml import YAML

from benchmarks.growth import write_params
from benchmarks.made_decks import write_deck, write_vectors
from benchmarks.material import DATA
from benchmarks.run import FOLDER, at_least_one, in_own_process, run_stage
from medcards import InputError
from medcards.answers.records import read_answers
from medcards.base.files import read_json
from medcards.base.scratch import scratch_root
from medcards.deck.cards import load_cards
from medcards.search.vectors import Vectors

ENGINES = ("local", "ray")
DEFAULT_STAGES = ("prepare", "embed", "rerank_eval", "answer")
"""Stages of the default run that Ray shares. adapt trains a linear layer there, and encodes nothing."""
WORKERS = 2
ANSWER = {"systems": ["base", "lora"], "batch_tokens": 512}
"""Parameters of answer."""
SHOWN = 10
"""Number of ranks that are compared."""
MEMORY_EVERY = 0.5
"""Seconds between two readings of the machine's memory."""


def processor_seconds() -> float:
    """Processor time of the machine so far. The workers of Ray run with a low priority, so theirs is ``nice``."""
    times = psutil.cpu_times()
    return times.user + times.system + getattr(times, "nice", 0.0)


def measure_stage(name: str, folder: Path, engine: str) -> dict[str, float]:
    """Seconds, processor seconds and megabytes of memory of a stage, and the number of batches that workers read."""
    used = psutil.virtual_memory().used
    before, started, peak, done = processor_seconds(), time.perf_counter(), [used], threading.Event()

    def watch() -> None:
        while not done.wait(MEMORY_EVERY):
            peak.append(psutil.virtual_memory().used)

    watching = threading.Thread(target=watch)
    watching.start()
    variables = {"MEDCARDS_SCRATCH": str(folder / ".scratch")}
    if engine == "local":  # Ray gives each worker as many threads as it has cores
        variables["OMP_NUM_THREADS"] = str(WORKERS)
    try:
        said = run_stage(name, folder, **variables)
    finally:
        done.set()
        watching.join()
    return {
        "seconds": time.perf_counter() - started,
        "processor_seconds": processor_seconds() - before,
        "memory_mb": (max(peak) - used) / 1e6,
        "batches": sum(map(int, re.findall(rf"(\d+) batches are read by {WORKERS} workers", said))),
    }


def measure_stages(stages: tuple[str, ...], folder: Path, engine: str) -> Iterator[dict]:
    """:func:`measure_stage` of several stages, with an engine."""
    yaml = YAML()
    params = yaml.load((folder / "params.yaml").read_text(encoding="utf-8"))
    params["compute"].update(engine=engine, workers=WORKERS, worker_cpus=1)
    params["answer"].update(ANSWER)
    yaml.dump(params, folder / "params.yaml")
    for stage in stages:
        cost = measure_stage(stage, folder, engine)
        print(engine, stage, {name: round(value, 1) for name, value in cost.items()}, file=sys.stderr, flush=True)
        yield {"stage": stage, "cards": count_cards(folder), "engine": engine} | cost


def count_cards(folder: Path) -> int:
    """The number of cards of a run."""
    return read_json(folder / "data" / "cards" / "manifest.json")["cards"]


def differences(one: Path, other: Path) -> list[str]:
    """How the results of two runs differ, one line per kind of result."""
    cards, again = (load_cards(data / "cards") for data in (one, other))
    vectors, vectors_again = Vectors.load(one / "vectors", cards), Vectors.load(other / "vectors", again)
    apart = max(
        np.abs(np.asarray(getattr(vectors, side)) - np.asarray(getattr(vectors_again, side))).max()
        for side in ("answers", "questions")
    )
    ranked, ranked_again = (
        pd.concat(pd.read_parquet(file) for file in sorted((data / "rankings").glob("*-*.parquet")))
        for data in (one, other)
    )
    first = (ranked["rank"] <= SHOWN).to_numpy()
    same = (ranked.answer.to_numpy() == ranked_again.answer.to_numpy())[first]
    texts, texts_again = (pd.DataFrame(list(read_answers(data / "answers").answers)) for data in (one, other))
    equal = texts.to_numpy() == texts_again.to_numpy()
    return [
        f"- cards, groups and splits: {'equal' if cards.equals(again) else 'different'}",
        f"- vectors: the largest difference of a number is {apart:.1e}",
        f"- rankings: {same.sum():,} of {len(same):,} rows of the first {SHOWN} ranks are equal",
        f"- answers: {equal.sum():,} of {equal.size:,} are equal",
    ]


def measure_default(scratch: Path) -> tuple[list[dict], list[str]]:
    """The default deck with both engines."""
    rows = []
    for engine in ENGINES:
        folder = scratch / engine
        shutil.copytree(DATA, folder / "data")
        shutil.copy("params.yaml", folder)
        rows += measure_stages(DEFAULT_STAGES, folder, engine)
    return rows, differences(*(scratch / engine / "data" for engine in ENGINES))


def measure_large(cards: int, embedded: int, scratch: Path) -> list[dict]:
    """A large deck with both engines: prepare and index of all cards, embed of a share."""
    rows = []
    for size in (cards, embedded):
        in_own_process(write_deck, size, scratch / str(size))
        write_params(scratch / str(size), adapt={"enabled": False})
    for engine in ENGINES:
        rows += measure_stages(("prepare",), scratch / str(cards), engine)
        rows += measure_stages(("prepare", "embed"), scratch / str(embedded), engine)
        in_own_process(write_vectors, scratch / str(cards))
        rows += measure_stages(("adapt", "index"), scratch / str(cards), engine)
    return rows


def cost_table(rows: list[dict]) -> list[str]:
    """One row per stage: seconds, processor seconds and memory of both engines, and the ratio of processor time."""
    heads = ("stage", "cards", "engine", "batches", "seconds", "processor seconds", "memory (MB)")
    lines = [f"| {' | '.join(heads)} |", "|---|---:|---|---:|---:|---:|---:|"]
    lines += [
        f"| {row['stage']} | {row['cards']:,} | {row['engine']} | {row['batches']:,} | {row['seconds']:.1f} | "
        f"{row['processor_seconds']:.1f} | {row['memory_mb']:,.0f} |"
        for row in rows
    ]
    total = pd.DataFrame(rows).groupby("engine").processor_seconds.sum()
    return [*lines, "", f"Processor time in total: {total['ray'] / total['local']:.2f} times that of one process."]


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.engines", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cards", type=at_least_one, default=200_000, help="cards of the large deck (default 200000)")
    parser.add_argument(
        "--embedded", type=at_least_one, default=20_000, help="cards that embed encodes (default 20000)"
    )
    given = parser.parse_args()
    if given.embedded >= given.cards:
        parser.error("--embedded: fewer than --cards")
    work = scratch_root() / "engines"
    work.mkdir(parents=True, exist_ok=True)
    try:
        with tempfile.TemporaryDirectory(dir=work) as scratch:
            default, compared = measure_default(Path(scratch))
        with tempfile.TemporaryDirectory(dir=work) as scratch:
            large = measure_large(given.cards, given.embedded, Path(scratch))
    except (InputError, MemoryError) as error:
        sys.exit(f"engines: {error}")
    from benchmarks.measure import gemm_rates
    from benchmarks.page import machine

    page = ["# Engines", "", "Written by `python -m benchmarks.engines`.", "", *__doc__.strip().split("\n\n")[-1:], ""]
    page += [*machine(gemm_rates()), "", "## Default deck", "", *cost_table(default), "", *compared, ""]
    page += [f"## {given.cards:,} cards", "", *cost_table(large)]
    (FOLDER / "engines.md").write_text("\n".join(page) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
