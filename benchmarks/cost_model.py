"""What a run of any size costs: seconds, memory, disk space, floating-point operations and price.

    python -m benchmarks.cost_model --cards 10000000
    python -m benchmarks.cost_model --cards 10000000 --gflops 100000 --price 3.5
    python -m benchmarks.cost_model --check

It reads benchmarks/growth.json, which `python -m benchmarks.growth` writes. The cost of a stage is a sum of terms of
the number of cards n, see LAWS. The factors of the terms are zero or more, and fit the measured decks best in relative
error. Two decks of each stage are not fitted: that of 32,000 cards and the largest one. `--check` compares their
measured seconds with the predicted ones.

The stages run as benchmarks/growth.md says: eda and index try one setting, and the samples of rerank_train,
rerank_eval, rows, finetune and answer are small. Their costs do not grow with the deck. metrics/cost has those of the
default parameters.

`--gflops` is the rate of matrix products where embed runs, by which its seconds are scaled. `--price` is that of an
hour of a machine.
"""

import argparse
import sys

import numpy as np
import pandas as pd
from scipy.optimize import nnls

from benchmarks.run import FOLDER, at_least_one
from medcards import InputError
from medcards.base.files import read_json
from medcards.deck.cards import SHARD_CARDS

TERMS = {
    "1": np.ones_like,
    "shard": lambda cards: np.minimum(cards, SHARD_CARDS),
    "n": lambda cards: cards,
    "n log n": lambda cards: cards * np.log(cards),
    "n^2": lambda cards: cards**2,
}
LAWS = {
    ("prepare", "seconds"): ("1", "n", "n^2"),
    ("index", "seconds"): ("1", "n", "n log n"),
    ("embed", "peak_memory_mb"): ("1", "shard"),
}
"""Terms of the cost of a stage; "1" and "n" for the others. prepare compares proposed pairs of near-duplicates. A
search in the graph of index takes a number of steps that grows with the logarithm of the cards. embed keeps one shard
of texts and vectors in memory; the cards that it reads in the end are not in its law."""
LINEAR = ("1", "n")
HELD_OUT = 32_000
"""The deck between others that is not fitted."""
COSTS = ("seconds", "peak_memory_mb", "disk_mb")


def fitted(cards: np.ndarray, cost: np.ndarray, terms: tuple[str, ...]) -> dict[str, float]:
    """The factor of each term, zero or more, with the smallest squared relative error (library: SciPy).

    >>> factors = fitted(np.array([10.0, 20, 40]), np.array([3.0, 4, 6]), LINEAR)
    >>> {term: round(float(factor), 6) for term, factor in factors.items()}
    {'1': 2.0, 'n': 0.1}
    """
    matrix = np.column_stack([TERMS[term](cards) for term in terms]) / cost[:, None]
    scale = np.abs(matrix).max(axis=0)
    factors, _ = nnls(matrix / scale, np.ones(len(cost)))
    return dict(zip(terms, factors / scale, strict=True))


def held_out(rows: pd.DataFrame) -> pd.Series:
    """Whether a row is that of a deck that is not fitted: :data:`HELD_OUT`, and the largest deck of its stage."""
    return (rows.cards == HELD_OUT) | (rows.cards == rows.groupby("stage").cards.transform("max"))


def predicted(factors: dict[str, float], cards: float) -> float:
    """The cost of a deck by the factors of :func:`fitted`."""
    return float(sum(factor * TERMS[term](np.array(float(cards))) for term, factor in factors.items()))


def fit(rows: pd.DataFrame) -> dict[str, dict[str, dict[str, float]]]:
    """The factors of each stage and cost, without the decks of :func:`held_out`."""
    rows, model = rows[~held_out(rows)], {}
    for stage, of_stage in rows.groupby("stage", sort=False):
        laws = {cost: LAWS.get((stage, cost), LINEAR) for cost in COSTS}
        if len(of_stage) < max(map(len, laws.values())):
            raise InputError(
                f"growth.json has {len(of_stage)} decks of {stage} to fit: run `python -m benchmarks.growth`"
            )
        cards = of_stage.cards.to_numpy(dtype=float)
        model[stage] = {
            cost: fitted(cards, of_stage[cost].clip(lower=0.001).to_numpy(), law) for cost, law in laws.items()
        }
    return model


def check_table(model: dict, rows: pd.DataFrame) -> list[str]:
    """Measured and predicted seconds of the decks that were not fitted, by stage and in total."""
    lines = ["| cards | stage | measured (s) | predicted (s) | error |", "|---:|---|---:|---:|---:|"]
    for cards, of_deck in rows[held_out(rows)].groupby("cards"):
        found = of_deck.assign(predicted=[predicted(model[stage]["seconds"], cards) for stage in of_deck.stage])
        total = {"stage": "all of them", "seconds": found.seconds.sum(), "predicted": found.predicted.sum()}
        for row in [*found.to_dict("records"), total]:
            seconds, expected = row["seconds"], row["predicted"]
            error = round(100 * (expected / seconds - 1))
            lines.append(f"| {cards:,} | {row['stage']} | {seconds:.1f} | {expected:.1f} | {error:+d}% |")
    return lines


def cost_table(model: dict, cards: int, speed_up: float, price: float, flops: float) -> list[str]:
    """Seconds, memory and disk space of every stage, and the price of all.

    Parameters
    ----------
    speed_up : how many times as fast embed is as on the measured machine.
    flops : floating-point operations of embed.
    """
    lines = ["| stage | seconds | memory (MB) | disk (MB) |", "|---|---:|---:|---:|"]
    total = 0.0
    for stage, factors in model.items():
        seconds, memory, disk = (predicted(factors[cost], cards) for cost in COSTS)
        seconds /= speed_up if stage == "embed" else 1
        total += 0 if stage.startswith("search") else seconds
        lines.append(f"| {stage} | {seconds:,.1f} | {memory:,.0f} | {disk:,.0f} |")
    hours = total / 3600
    return [*lines, "", f"{hours:,.1f} hours, {hours * price:,.2f} in price. embed takes {flops / 1e12:,.0f} TFLOP."]


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.cost_model",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--cards", type=at_least_one, default=1_000_000, help="number of cards (default 1000000)")
    parser.add_argument("--gflops", type=float, help="rate of matrix products where embed runs (default: as measured)")
    parser.add_argument("--price", type=float, default=0.0, help="price of an hour of a machine (default 0)")
    parser.add_argument("--check", action="store_true", help="compare with the decks that were not fitted")
    given = parser.parse_args()
    file = FOLDER / "growth.json"
    try:
        if not file.exists():
            raise InputError(f"{file} is missing: run `python -m benchmarks.growth`")
        growth = read_json(file)
        rows = pd.DataFrame(growth["rows"])
        model = fit(rows)
    except InputError as error:
        sys.exit(f"cost_model: {error}")
    if given.check:
        print("\n".join(check_table(model, rows)))
        return
    speed_up = given.gflops / growth["gflops"] if given.gflops else 1.0
    flops = growth["embed_flops_per_card"] * given.cards
    print("\n".join(cost_table(model, given.cards, speed_up, given.price, flops)))


if __name__ == "__main__":
    main()
