"""Figures of several runs: scores over seeds, and curves against a parameter."""

from pathlib import Path

import pandas as pd
from matplotlib import pyplot as plt

from medcards.answers.comparison import HEADLINE
from medcards.answers.studies import TUNED_NLL
from medcards.report.answer_plots import LABELS
from medcards.report.style import interval_line, save_figure

WIDE = 10
"""Ratio of the largest to the smallest value from which an axis is logarithmic."""
SEED_LABELS = {HEADLINE: LABELS[HEADLINE], "nll": "NLL (nats per token)"}
"""The scores that a figure of seeds shows, with their labels."""


def plot_seeds(points: pd.DataFrame, path: Path) -> None:
    """Plot one point per seed and a bar for their mean: one panel per score, one place per system.

    Parameters
    ----------
    points : see :class:`medcards.answers.studies.SeedStudy`; the CSV holds every score.
    """
    shown = {score: label for score, label in SEED_LABELS.items() if (points.score == score).any()}
    figure, panels = plt.subplots(1, len(shown), figsize=(6 * len(shown), 4.5), squeeze=False)
    for axes, (score, label) in zip(panels[0], shown.items(), strict=True):
        rows = points[points.score == score]
        systems = list(dict.fromkeys(rows.system))
        for number, (group, of_group) in enumerate(rows.groupby("group", sort=False)):
            means = of_group.groupby("system").value.mean()
            colour = f"C{number}"
            axes.scatter(of_group.system.map(systems.index) + 0.2 * number, of_group.value, s=18, c=colour, label=group)
            axes.scatter(means.index.map(systems.index) + 0.2 * number, means, s=300, marker="_", c=colour)
        axes.set_xticks(range(len(systems)), systems, rotation=30, ha="right")
        axes.set(xlabel="system", ylabel=f"{label}\none point per seed, bar: mean")
    if points.group.nunique() > 1:
        panels[0, -1].legend(title="parameters", loc="upper left", bbox_to_anchor=(1, 1))
    figure.tight_layout()
    save_figure(figure, points, path)


def plot_curve(curve: pd.DataFrame, parameter: str, path: Path) -> None:
    """Plot the validation loss, and the headline score of each tuned system, against a parameter.

    Parameters
    ----------
    curve : see :func:`medcards.answers.studies.scaling_curve`.
    parameter : its name.
    """
    figure, (loss, score) = plt.subplots(1, 2, figsize=(11, 4.5))
    values = curve.parameter
    scale = "log" if values.min() > 0 and values.max() >= WIDE * values.min() else "linear"
    for place, (name, rows) in enumerate(curve.groupby("score", sort=False)):
        beside = rows.parameter * 1.03**place if scale == "log" else rows.parameter + 0.01 * place * values.max()
        interval_line(loss if name == TUNED_NLL else score, beside, rows, label=name)  # whiskers side by side
    for axes, label in ((loss, "validation NLL, tuned (nats per token)"), (score, LABELS[HEADLINE])):
        axes.set(xlabel=parameter, ylabel=f"{label}\n95% interval", xscale=scale)
        axes.set_xticks(values.unique(), [f"{value:g}" for value in values.unique()])
        axes.minorticks_off()
    score.legend(title="system", loc="upper left", bbox_to_anchor=(1, 1))
    figure.tight_layout()
    save_figure(figure, curve, path)
