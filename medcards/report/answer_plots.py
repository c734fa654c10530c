"""Figures of the answering systems, of the fine-tuning, and of the quantised bases."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt

from medcards.answers.comparison import HEADLINE, answer_systems_of
from medcards.base.files import read_json
from medcards.report.style import (
    interval_bars,
    interval_columns,
    interval_line,
    publish_table,
    read_figure_table,
    save_figure,
    whiskers,
)

SCORES_SHOWN = ("token_f1", "novel_f1", HEADLINE, "rouge_l", "chrf", "similarity")
LABELS = {"token_f1": "token F1", HEADLINE: "sound F1"}
LOSSES = {
    "train_loss": "training (mean over answer tokens)",
    "validation_loss": "validation (mean over cards of each card's mean)",
}
"""The curves of the losses, with their labels."""
PUBLISHED_CURVES = (*LOSSES, "learning_rate", "gradient_norm")
SPEED_CURVE = "tokens_per_second"
"""The one curve that a clock draws."""
TRADE_OFF = ("token_f1", "novel_f1", HEADLINE, "nll")


def draw_answers(figures: Path, qa: dict, folder: Path) -> None:
    """Draw what the stage evaluate measured.

    Parameters
    ----------
    figures : data/figures/evaluate.
    qa : its metrics.
    folder : the folder for the pictures and their tables; it is made.
    """
    folder.mkdir(parents=True)
    plot_scores(qa, folder / "scores.png")
    plot_by_similarity(read_figure_table(figures / "by_similarity.csv"), folder / "by_similarity.png")


def plot_scores(qa: dict, path: Path) -> None:
    """Plot bars of the scores that lie between 0 and 1, by system; ``qa`` is metrics/qa.json."""
    rows = [
        {"system": system, "score": score} | interval_columns(block[score])
        for system, block in answer_systems_of(qa).items()
        for score in SCORES_SHOWN
        if score in block
    ]
    data = pd.DataFrame(rows)
    figure = interval_bars(data, "score", "system", f"mean over {data.n.max()} {qa['split']} questions, 95% interval")
    figure.axes[0].set(xlabel="score")
    save_figure(figure, data, path)


def plot_by_similarity(data: pd.DataFrame, path: Path) -> None:
    """Plot token F1 and the headline score against the similarity of the nearest training question.

    Parameters
    ----------
    data : bin, similarity (the bin's mean), system, score, mean, lo, hi, n; the CSV holds every score.
    """
    figure, panels = plt.subplots(1, 2, figsize=(11, 4.5))
    for axes, score in zip(panels, ("token_f1", HEADLINE), strict=True):
        for number, (system, rows) in enumerate(data[data.score == score].groupby("system", sort=False)):
            interval_line(axes, rows.similarity + 0.002 * number, rows, label=system)  # whiskers side by side
        axes.set(xlabel="cosine similarity of the nearest training question", ylabel=f"{LABELS[score]}, 95% interval")
    panels[-1].legend(title="system", loc="upper left", bbox_to_anchor=(1, 1))
    figure.tight_layout()
    save_figure(figure, data, path)


def draw_slices(data: pd.DataFrame, system: str, folder: Path) -> None:
    """Plot the headline score of one system by part of the questions, worst on top. The CSV holds every system.

    Parameters
    ----------
    data : what :func:`medcards.answers.comparison.slices` returns.
    folder : the folder for the picture and its table; it is made.
    """
    folder.mkdir(parents=True)
    rows = data[data.system == system].sort_values("mean", kind="stable")
    figure, axes = plt.subplots(figsize=(8, 1 + 0.35 * max(1, len(rows))))
    places = np.arange(len(rows))
    axes.errorbar(rows["mean"], places, xerr=whiskers(rows), fmt="o", capsize=3)
    axes.set_yticks(places, [f"{row.by}: {row.slice[:40]} (n = {row.n})" for row in rows.itertuples()])
    axes.invert_yaxis()
    axes.set(xlabel=f"{LABELS[HEADLINE]} of {system}, 95% interval", ylabel="part of the questions")
    save_figure(figure, data, folder / "slices.png")


def draw_finetuning(curves: Path, folder: Path, cost_folder: Path) -> None:
    """Publish the training curves, and draw the losses.

    Parameters
    ----------
    curves : data/curves, which DVCLive writes while the model trains.
    folder, cost_folder : the folders for the curves, and for those that a clock draws; they are made.
    """
    last = read_json(curves / "metrics.json")
    for to, names in ((folder, PUBLISHED_CURVES), (cost_folder, (SPEED_CURVE,))):
        (to / "plots/metrics").mkdir(parents=True)
        for name in names:
            shutil.copyfile(curves / f"plots/metrics/{name}.tsv", to / f"plots/metrics/{name}.tsv")
        shown = {name: value for name, value in last.items() if name == "step" or name in names}
        (to / "metrics.json").write_text(json.dumps(shown, indent=4) + "\n", encoding="utf-8")
    tables = {name: pd.read_table(curves / f"plots/metrics/{name}.tsv") for name in LOSSES}
    data = pd.concat([table.set_axis(["step", "loss"], axis=1).assign(of=name) for name, table in tables.items()])
    figure, axes = plt.subplots(figsize=(7, 4))
    for name, rows in data.groupby("of"):
        axes.plot(rows.step, rows.loss, marker="o", label=LOSSES[name])
    axes.set(xlabel="optimizer step", ylabel="loss (nats per token)")
    axes.legend()
    save_figure(figure, data, folder / "losses.png")


def draw_quantisation(found: dict, folder: Path) -> None:
    """Plot quality against the memory of the base; write a table without rows where no bases were compared.

    Parameters
    ----------
    found : metrics/quantisation.json.
    folder : the folder for the picture and its table; it is made.
    """
    folder.mkdir(parents=True)
    rows = [
        {"base": base, "megabytes": found[base]["base_bytes"] / 1e6}
        | {score: found[base][score]["mean"] for score in TRADE_OFF}
        for base in bases_of(found)
    ]
    data = pd.DataFrame(rows, columns=["base", "megabytes", *TRADE_OFF])
    if data.empty:
        publish_table(data, folder / "trade_off.csv")
        return
    figure, panels = plt.subplots(1, 2, figsize=(10, 4))
    for axes, score, label in zip(panels, ("nll", HEADLINE), ("NLL (nats per token)", "sound F1"), strict=True):
        axes.scatter(data.megabytes, data[score])
        for row in data.itertuples():
            axes.annotate(row.base, (row.megabytes, getattr(row, score)), xytext=(5, 5), textcoords="offset points")
        axes.set(xlabel="weights of the base (MB)", ylabel=label)
    figure.tight_layout()
    save_figure(figure, data, folder / "trade_off.png")


def bases_of(found: dict) -> list[str]:
    """The bases of metrics/quantisation.json, the largest first."""
    return sorted(found.keys() - {"differences"}, key=lambda base: (-found[base]["base_bytes"], base))
