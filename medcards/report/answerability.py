"""What the report says of the probability that the deck has an answer: a table, and two figures."""

from pathlib import Path

import pandas as pd
from matplotlib import pyplot as plt

from medcards.base.params import Block
from medcards.report.results import query_sets_of
from medcards.report.style import interval_band, interval_line, read_figure_table, save_figure
from medcards.search.selective import RISK


class Refusals(Block, extra="ignore"):
    """What is refused, of the block ``rerank_eval`` of params.yaml.

    Parameters
    ----------
    false_refusals : the largest share of answerable questions that are refused.
    """

    false_refusals: float

    def __str__(self) -> str:
        return f"{100 * self.false_refusals:g}%"


def answerability_columns(refusals: Refusals) -> dict[str, str]:
    """The measures of metrics/answerability.json by their columns in the table of the report.

    >>> list(answerability_columns(Refusals(false_refusals=0.1)))[1:4]
    ['coverage at 5% risk', 'area', 'refused at 10% false refusals']
    """
    return {
        "AUROC": "auroc",
        f"coverage at {RISK:.0%} risk": "coverage_at_risk",
        "area": "risk_area",
        f"refused at {refusals} false refusals": "refused_at_share",
        "calibration error": "calibration_error",
        "served: false refusals": "false_refusals",
        "served: refusals": "refusals",
        "served: coverage": "served_coverage",
        "served: risk": "served_risk",
        "refused, topic hidden": "off_topic_refusals",
    }


def answerability_rows(measured: dict[str, dict], refusals: Refusals) -> dict[str, dict]:
    """Rows of the table: the measures that a query set has, and the number of questions, which counts each one twice.

    Parameters
    ----------
    measured : a split of metrics/answerability.json.
    """
    columns = answerability_columns(refusals).items()
    return {
        name: {column: measured[name][measure] for column, measure in columns if measure in measured[name]}
        | {"n": str(measured[name]["auroc"]["n"])}
        for name in query_sets_of(measured)
    }


def draw_answerability(figures: Path, split: str, folder: Path) -> None:
    """Draw what the stage rerank_eval measured of the probability that the deck has an answer.

    Parameters
    ----------
    figures : data/figures/rerank_eval.
    split : the split of the questions.
    folder : the folder for the pictures and their tables; it is made.
    """
    folder.mkdir(parents=True)
    plot_risk(read_figure_table(figures / "risk_coverage.csv"), split, folder / "risk_coverage.png")
    plot_reliability(read_figure_table(figures / "reliability.csv"), split, folder / "reliability.png")


def plot_risk(curves: pd.DataFrame, split: str, path: Path) -> None:
    """Plot risk against coverage with 95% bands, one line per query set.

    Parameters
    ----------
    curves : coverage, mean, lo, hi, n, query_set.
    """
    figure, axes = plt.subplots(figsize=(6.5, 4.5))
    for name, rows in _by_query_set(curves):
        interval_band(axes, rows.coverage, rows, label=name)
    axes.set(
        xlabel=f"coverage: share of the {split} questions that are answered",
        ylabel="risk: share of these whose first card\nis not relevant, 95% interval",
        xlim=(0, 1),
        ylim=(0, None),
    )
    axes.legend(title="query set", loc="upper left", bbox_to_anchor=(1, 1))
    save_figure(figure, curves, path)


def plot_reliability(bins: pd.DataFrame, split: str, path: Path) -> None:
    """Plot the share of answerable questions against the probability, one line per query set, and the diagonal.

    On the diagonal the share equals the probability.

    Parameters
    ----------
    bins : bin, probability (the bin's mean), mean, lo, hi, n, query_set.
    """
    figure, axes = plt.subplots(figsize=(6.5, 5))
    axes.plot([0, 1], [0, 1], color="gray", linestyle="--", label="share = probability")
    sets = _by_query_set(bins)
    for number, (name, rows) in enumerate(sets):
        shift = 0.006 * (number - (len(sets) - 1) / 2)  # whiskers side by side
        interval_line(axes, rows.probability + shift, rows, label=name, ms=4, lw=1)
    axes.set(
        xlabel="probability that the deck has an answer, mean of a bin",
        ylabel=f"share of the {split} questions whose\nrelevant cards are in the deck, 95% interval",
        xlim=(0, 1.02),
        ylim=(-0.02, 1.02),
    )
    axes.legend(title="query set", loc="upper left", bbox_to_anchor=(1, 1))
    save_figure(figure, bins, path)


def _by_query_set(table: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """The rows of each query set, in the order of the tables."""
    sets = dict(list(table.groupby("query_set")))
    return [(name, sets[name]) for name in query_sets_of(sets)]
