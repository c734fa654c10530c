"""Seconds, memory and disk space of every stage on decks of 2,000 to 1,000,000 cards, with the exponent of the growth.

    python -m benchmarks.growth
    python -m benchmarks.growth --largest 32000 --limit 60
    python -m benchmarks.growth --smallest 1000000    # after a run that ended early

Run it in the root folder after `dvc repro`: it reads data/ and params.yaml. It writes benchmarks/growth.md and
benchmarks/growth.json, which benchmarks/cost_model.py reads, after each stage, and takes about two hours.

Each stage runs as `dvc repro` runs it, in a process of its own, in a temporary folder with a deck of that size. A deck
is a sample of the default deck's own cards. A larger deck holds all of them, and cards that are made by recombining the
words of four real cards each. The vectors of such a card are weighted means of those of the first and of three among
the 100 that are most similar to them. Stages that try several settings try one. The samples of rerank_train,
rerank_eval, rows, finetune and answer are small, and do not depend on the deck. embed, audit and eda, whose outs no
later stage reads here, are left out where their last time, times the growth of the deck, exceeds the limit.
"""

import argparse
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
from ruamel.yaml import YAML

from benchmarks.flops import forward_flops
from benchmarks.made_decks import write_deck, write_vectors
from benchmarks.material import DATA, Deck, blocks
from benchmarks.run import FOLDER, in_own_process, run_stage
from medcards import InputError
from medcards.base.cost import peak_memory
from medcards.base.files import read_json, write_json
from medcards.base.manifests import pinned_model
from medcards.base.references import resolve
from medcards.deck import cards as card_tables
from medcards.search.encoder import load_encoder
from medcards.search.latency import measure_latency
from medcards.search.searcher import Searcher

SIZES = (2000, 8000, 32_000, 128_000, 256_000, 1_000_000)
STAGES = (
    *("prepare", "embed", "adapt", "audit", "eda", "index", "rerank_train", "rerank_eval"),
    *("rows", "finetune", "answer", "evaluate"),
)
SETTINGS = {
    "data": {"source": "file", "path": "decks"},
    "eda": {"clusters": [20], "topics": [20], "tsne_sample": 500},
    "index": {"m": [16], "ef_construction": [200], "ef_search": [80], "target_recall": 0.5},
    "reranker": {"questions": 64},
    "rerank_eval": {"test_queries": 50, "validation_queries": 50},
    "rows": {"train_cards": 16, "validation_cards": 8},
    "finetune": {"evaluate_steps": 0},
    "answer": {"questions": 8, "systems": ["copy_nearest", "lora", "search_open"]},
}
"""What differs from params.yaml: one setting where the default run tries several, and small samples."""
ENDS = ("embed", "audit", "eda")
"""Stages whose outs no later stage reads here; the vectors are given."""
OUTS = {
    "prepare": "cards",
    "embed": "vectors",
    "adapt": "encoder",
    "audit": "figures/audit",
    "rerank_train": "reranker",
    "rerank_eval": "rankings",
    "finetune": "adapter",
    "answer": "answers",
    "evaluate": "scores",
}
"""The folder in data/ of a stage, where it has another name."""
SEARCHED = 50
"""Number of questions that the search is timed on."""


def exponent(cards: Iterable[float], seconds: Iterable[float]) -> float:
    """The slope of log seconds over log cards, by least squares: 1 is linear growth, 0 is none.

    >>> round(exponent([1000, 2000, 4000], [1, 4, 16]), 3)
    2.0
    """
    return float(np.polyfit(np.log(list(cards)), np.log(list(seconds)), 1)[0])


def write_params(folder: Path, **changes: dict) -> None:
    """Write params.yaml with the changes of :data:`SETTINGS`, and others."""
    yaml = YAML()
    params = yaml.load(Path("params.yaml").read_text(encoding="utf-8"))
    for block, values in (SETTINGS | changes).items():
        params[block].update(values)
    yaml.dump(params, folder / "params.yaml")


def measure_stage(name: str, folder: Path) -> dict[str, float] | None:
    """Seconds, peak memory and disk space of a stage; None where the system kills it."""
    try:
        run_stage(name, folder)
    except MemoryError:
        return None
    cost = read_json(folder / "data" / "figures" / name / "cost.json")
    written = folder / "data" / OUTS.get(name, name)
    size = sum(file.stat().st_size for file in written.rglob("*") if file.is_file()) / 1e6
    return {"seconds": cost["seconds"], "peak_memory_mb": cost["peak_memory_mb"], "disk_mb": size}


def embed_flops_per_card() -> float:
    """Floating-point operations that embed takes per card of the default deck, without padding."""
    (seed,) = blocks()
    deck = Deck(seed)
    vectors = deck.unadapted
    asked = vectors.question_tokens_of(deck.corpus.card_id)
    tokens = np.minimum(np.concatenate([vectors.answer_tokens, asked]), vectors.max_tokens)
    return forward_flops(load_encoder(resolve(pinned_model(DATA, "encoder"))), tokens) / len(vectors.answers)


def search_costs(folder: Path) -> list[dict]:
    """Seconds until the search is loaded, the median of a question, and the peak memory."""
    os.chdir(folder)
    started = time.perf_counter()
    searcher = Searcher.load("data")
    loaded = time.perf_counter() - started
    questions = card_tables.sample(card_tables.load_cards("data/cards"), "test", SEARCHED, 0).question
    asked = measure_latency(lambda question: searcher.find(question[0]), questions.tolist())
    memory = round(peak_memory() / 1e6)
    seconds = {"search, to start": loaded, "search, a question": asked["p50_ms"] / 1000}
    return [{"stage": name, "seconds": of, "peak_memory_mb": memory, "disk_mb": 0} for name, of in seconds.items()]


def measure_growth(sizes: list[int], limit: float, rows: list[dict]) -> Iterator[pd.DataFrame]:
    """Seconds, peak memory and disk space, one row per stage and size. It yields those so far after each stage.

    Parameters
    ----------
    limit : seconds that a stage of :data:`ENDS` may take.
    rows : those of smaller decks.
    """
    last = {row["stage"]: (row["cards"], row["seconds"]) for row in rows}
    with tempfile.TemporaryDirectory() as scratch:
        for size in sizes:
            folder = Path(scratch) / str(size)
            in_own_process(write_deck, size, folder)
            write_params(folder)
            (folder / "docs").symlink_to(Path("docs").resolve())  # evaluate reads the judged answers
            for stage in STAGES:
                expected = last[stage][1] * size / last[stage][0] if stage in last and stage in ENDS else 0
                cost = measure_stage(stage, folder) if expected <= limit else None
                print(size, stage, cost and cost["seconds"], file=sys.stderr, flush=True)
                if cost:
                    last[stage] = size, cost["seconds"]
                    rows.append({"stage": stage, "cards": size} | cost)
                elif stage not in ENDS:
                    break  # the later stages read its outs
                if stage == "embed":
                    in_own_process(write_vectors, folder)  # made vectors, so that all decks have such
                if stage == "rerank_eval":
                    rows += [row | {"cards": size} for row in in_own_process(search_costs, folder)]
                yield pd.DataFrame(rows)
            shutil.rmtree(folder)


def growth_table(rows: pd.DataFrame, sizes: list[int]) -> list[str]:
    """One row per stage: seconds and memory by size, the fitted exponent, and that of the two largest decks."""
    heads = [f"{size:,}" for size in sizes]
    lines = [f"| stage | {' | '.join(heads)} | exponent | of the last two |", f"|---|{'---:|' * (len(sizes) + 2)}"]
    for stage, found in rows.groupby("stage", sort=False):
        costs = found.set_index("cards")
        cells = [
            f"{costs.seconds[size]:.1f} s, {costs.peak_memory_mb[size]:,.0f} MB" if size in costs.index else "–"
            for size in sizes
        ]
        ends = (costs, costs.tail(2)) if len(costs) > 1 else ()
        exponents = [f"{exponent(part.index, part.seconds):.2f}" for part in ends]
        lines.append(f"| {stage} | {' | '.join([*cells, *(exponents or ['–', '–'])])} |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.growth", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--largest", type=int, default=SIZES[-1], help=f"cards of the largest deck (default {SIZES[-1]})"
    )
    parser.add_argument(
        "--smallest", type=int, default=SIZES[0], help="keep what growth.json has of decks with fewer cards"
    )
    parser.add_argument(
        "--limit", type=float, default=600, help="seconds that embed, audit and eda may take (default 600)"
    )
    given = parser.parse_args()
    sizes = [size for size in SIZES if given.smallest <= size <= given.largest]
    if not sizes or given.limit <= 0:
        parser.error(f"--smallest, --largest: leave one of {', '.join(map(str, SIZES))}; --limit: above 0")
    from benchmarks.measure import gemm_rates
    from benchmarks.page import machine

    started, rates = time.perf_counter(), gemm_rates()
    try:
        if given.smallest > SIZES[0]:
            measured = read_json(FOLDER / "growth.json")
            kept = [row for row in measured["rows"] if row["cards"] < given.smallest]
        else:
            flops, kept = in_own_process(embed_flops_per_card), []
            measured = {"gflops": max(rates.values()) / 1e9, "embed_flops_per_card": flops}
        for rows in measure_growth(sizes, given.limit, kept):
            table, minutes = growth_table(rows, sorted(set(rows.cards))), (time.perf_counter() - started) / 60
            origin = f"Written by `python -m benchmarks.growth`. The last run took {minutes:.0f} minutes."
            page = ["# Growth", "", origin, "", *__doc__.strip().split("\n\n")[-1:], "", *machine(rates), "", *table]
            write_json(FOLDER / "growth.json", measured | {"rows": rows.to_dict("records")})
            (FOLDER / "growth.md").write_text("\n".join(page) + "\n", encoding="utf-8")
    except InputError as error:
        sys.exit(f"growth: {error}")
    print("\n".join(table))


if __name__ == "__main__":
    main()
