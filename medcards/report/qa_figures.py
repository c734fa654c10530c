"""Pictures of how the answering systems score."""

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt

from medcards.answers.comparison import HEADLINE, by_similarity, systems_of
from medcards.report.style import interval_bars, interval_line, save, whiskers

SHOWN = ("token_f1", "novel_f1", HEADLINE, "rouge_l", "chrf", "similarity")
LABELS = {"token_f1": "token F1", HEADLINE: "sound F1"}


def plot_scores(summary: dict, questions: int, path: Path) -> None:
    """Bars of the scores that lie between 0 and 1, by system."""
    rows = [
        {"system": system, "score": score} | block[score]
        for system, block in systems_of(summary).items()
        for score in SHOWN
        if score in block
    ]
    data = pd.DataFrame(rows)
    figure = interval_bars(data, "score", "system", f"mean over {questions} test questions, 95% interval")
    figure.axes[0].set(xlabel="score")
    save(figure, data, path)


def plot_by_similarity(
    scores: dict[str, pd.DataFrame], similarity: np.ndarray, groups: object, seed: int, path: Path
) -> None:
    """Token F1 and the headline score by how near the nearest training question is; all scores in the CSV beside."""
    data = by_similarity(scores, similarity, groups, seed)
    figure, axes = plt.subplots(1, 2, figsize=(11, 4.5))
    for axis, score in zip(axes, ("token_f1", HEADLINE), strict=True):
        for number, (system, rows) in enumerate(data[data.score == score].groupby("system", sort=False)):
            interval_line(axis, rows.similarity + 0.002 * number, rows, label=system)
        axis.set(xlabel="cosine similarity of the nearest training question", ylabel=f"{LABELS[score]}, 95% interval")
    axes[-1].legend(title="system", loc="upper left", bbox_to_anchor=(1, 1))
    figure.tight_layout()
    save(figure, data, path)


def plot_slices(data: pd.DataFrame, system: str, path: Path) -> None:
    """The headline score of one system by part of the questions, worst on top; every system's in the CSV beside."""
    rows = data[data.system == system].sort_values("mean", kind="stable")
    figure, axes = plt.subplots(figsize=(8, 1 + 0.35 * max(1, len(rows))))
    places = np.arange(len(rows))
    axes.errorbar(rows["mean"], places, xerr=whiskers(rows), fmt="o", capsize=3)
    names = [f"{row.by}: {row.slice[:40]} (n = {row.n})" for row in rows.itertuples()]
    axes.set_yticks(places, names)
    axes.invert_yaxis()
    axes.set(xlabel=f"{LABELS[HEADLINE]} of {system}, 95% interval", ylabel="part of the test questions")
    save(figure, data, path)
