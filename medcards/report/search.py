"""Figures of the search: the HNSW index, the training of the cross-encoder, the retrieval systems."""

import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt

from medcards.report.results import query_sets_of, ranked_questions, retrieval_systems_of
from medcards.report.style import (
    interval_bars,
    interval_columns,
    interval_line,
    publish_table,
    read_figure_table,
    save_figure,
    whiskers,
)

SETTING = ["m", "ef_construction", "ef_search"]
OFTEN_UNKNOWN = 0.05
"""Share of unknown tokens from which the report warns."""
MEASURES_TESTED = ("mrr@10", "ndcg@10", "recall@10")
MEASURES_SHOWN = ("mrr@10", "ndcg@10", "recall@1", "recall@5", "recall@10", "recall@50")


def search_warnings(metrics: dict[str, dict]) -> list[str]:
    """What a reader must know of the search before believing the tables.

    Parameters
    ----------
    metrics : see :func:`medcards.report.results.read_figures`.
    """
    found, served = [], metrics["index"]["served"]
    if (unknown := max(metrics["embed"]["unknown_tokens"].values())) > OFTEN_UNKNOWN:
        found.append(
            f"Unknown words: the bi-encoder's tokenizer does not know {unknown:.0%} of the tokens, and their "
            "differences are lost. Use an encoder of the deck's language (`embed.model`)."
        )
    if (recall := served["recall@10"]["mean"]) < served["target_recall"]:
        found.append(
            f"Index: no setting reaches the recall@10 of {served['target_recall']}; the best has {recall:.3f} and is "
            "served. Add larger values to `index.ef_search` or `index.m`."
        )
    return found


def draw_index(figures: Path, index: dict, exact: dict, folder: Path, cost_folder: Path) -> None:
    """Draw what the stage index measured.

    Parameters
    ----------
    figures : data/figures/index.
    index : its metrics.
    exact : what exact search costs, of its cost file.
    folder, cost_folder : the folders for pictures of quality and of speed, and their tables; they are made.
    """
    folder.mkdir(parents=True)
    cost_folder.mkdir(parents=True)
    served = [index["served"][name] for name in SETTING]
    grid, timed = read_figure_table(figures / "grid.csv"), read_figure_table(figures / "timed.csv")
    plot_index_recall(grid, served, folder / "recall.png")
    plot_index_speed(timed, served, exact["queries_per_second"], cost_folder / "settings.png")
    publish_table(grid[(grid[SETTING[:2]] == served[:2]).all(axis=1)], folder / "served.csv")
    shutil.copyfile(figures / "frontier.csv", cost_folder / "frontier.csv")


def plot_index_recall(grid: pd.DataFrame, served: Sequence[int], path: Path) -> None:
    """Plot recall against ef_search: one line per m and ef_construction. A ring marks the served setting.

    Parameters
    ----------
    grid : m, ef_construction, ef_search, and recall as mean, lo, hi.
    served : m, ef_construction and ef_search of the served index.
    """
    figure, axes = plt.subplots(figsize=(6, 4))
    for (m, ef_construction), rows in grid.groupby(SETTING[:2]):
        interval_line(axes, rows.ef_search, rows, label=f"m {m}, ef_construction {ef_construction}")
    _ring(axes, grid, served, "ef_search", "mean")
    axes.legend(loc="upper left", bbox_to_anchor=(1, 1))
    axes.set(xlabel="ef_search", ylabel="recall@10 against exact search", xscale="log")
    axes.set_xticks(grid.ef_search.unique(), grid.ef_search.unique())
    axes.minorticks_off()
    save_figure(figure, grid, path)


def plot_index_speed(timed: pd.DataFrame, served: Sequence[int], exact: float, path: Path) -> None:
    """Plot queries per second against recall: one line per m and ef_construction. A ring marks the served setting.

    Parameters
    ----------
    timed : m, ef_construction, ef_search, mean (recall) and queries_per_second.
    served : m, ef_construction and ef_search of the served index.
    exact : queries per second of exact search.
    """
    figure, axes = plt.subplots(figsize=(6, 4))
    for (m, ef_construction), rows in timed.groupby(SETTING[:2]):
        label = f"m {m}, ef_construction {ef_construction}"
        axes.plot(rows["mean"], rows.queries_per_second, marker="o", label=label)
    _ring(axes, timed, served, "mean", "queries_per_second")
    axes.axhline(exact, color="gray", linestyle="--", label="exact search")
    axes.legend(loc="upper left", bbox_to_anchor=(1, 1))
    axes.set(xlabel="recall@10 against exact search", ylabel="queries/s, one thread", yscale="log")
    save_figure(figure, timed, path)


def _ring(axes: plt.Axes, data: pd.DataFrame, served: Sequence[int], x: str, y: str) -> None:
    row = data[(data[SETTING] == list(served)).all(axis=1)]
    axes.plot(row[x], row[y], "o", ms=14, mfc="none", mec="black", label="served")


def draw_reranker_training(figures: Path, folder: Path) -> None:
    """Draw the training loss of the cross-encoder; ``figures`` is data/figures/rerank_train, ``folder`` is made."""
    folder.mkdir(parents=True)
    curve = read_figure_table(figures / "loss.csv")
    figure, axes = plt.subplots(figsize=(6, 4))
    axes.plot(curve.step, curve.loss, alpha=0.3, label="one step")
    axes.plot(curve.step, curve.smoothed, label="mean of 10 steps")
    axes.set(xlabel="optimizer step", ylabel="training loss (nats per question)")
    axes.legend()
    save_figure(figure, curve, folder / "loss.png")


def draw_retrieval(figures: Path, retrieval: dict, latency: dict, folder: Path, cost_folder: Path) -> None:
    """Draw what the stage rerank_eval measured on the questions of the split that ``answer.split`` names.

    Parameters
    ----------
    figures : data/figures/rerank_eval.
    retrieval : its metrics.
    latency : ``{system: {"p50_ms": ...}}``, of its cost file.
    folder, cost_folder : the folders for pictures of quality and of speed, and their tables; they are made.
    """
    folder.mkdir(parents=True)
    cost_folder.mkdir(parents=True)
    ranked, split = ranked_questions(retrieval), retrieval["split"]
    plot_measures(ranked["own"], split, folder / "measures.png")
    plot_query_sets(ranked, folder / "query_sets.png")
    plot_recall_at_k(read_figure_table(figures / "recall_at_k.csv"), folder / "recall_at_k.png")
    plot_latency(ranked["own"], latency, cost_folder / "latency.png")


def measure_table(block: dict[str, dict], measures: Sequence[str], **also: str) -> pd.DataFrame:
    """Intervals of every retrieval system as rows: system, measure, what ``also`` names, mean, lo, hi, n."""
    return pd.DataFrame(
        [
            {"system": system, "measure": measure} | also | interval_columns(intervals[measure])
            for system, intervals in retrieval_systems_of(block).items()
            for measure in measures
        ]
    )


def plot_measures(own: dict[str, dict], split: str, path: Path) -> None:
    """Plot every measure of every system on the deck's own questions; ``own`` is a block of metrics/retrieval.json."""
    data = measure_table(own, MEASURES_SHOWN)
    figure = interval_bars(data, "measure", "system", f"mean over {data.n.max()} {split} questions, 95% interval")
    figure.axes[0].set(ylim=(0, 1), xlabel="measure")
    save_figure(figure, data, path)


def plot_query_sets(ranked: dict[str, dict], path: Path) -> None:
    """Plot MRR@10 of every system on every query set; ``ranked`` is a split of metrics/retrieval.json."""
    data = pd.concat([measure_table(ranked[name], ["mrr@10"], query_set=name) for name in query_sets_of(ranked)])
    figure = interval_bars(data, "query_set", "system", "MRR@10, 95% interval")
    figure.axes[0].set(ylim=(0, 1), xlabel="query set")
    save_figure(figure, data, path)


def plot_recall_at_k(curves: pd.DataFrame, path: Path) -> None:
    """Plot recall against the depth ``k`` of the ranking: one column of ``curves`` per system."""
    figure, axes = plt.subplots(figsize=(6, 4))
    for system in curves.columns.drop("k"):
        axes.plot(curves.k, curves[system], marker="o", label=system)
    axes.set(xlabel="k", ylabel="recall@k, own questions", xscale="log", ylim=(None, 1))
    axes.set_xticks(curves.k, curves.k)
    axes.minorticks_off()
    axes.legend()
    save_figure(figure, curves, path)


def plot_latency(own: dict[str, dict], latency: dict[str, dict], path: Path) -> None:
    """Plot MRR@10 against the time per question.

    Parameters
    ----------
    own : a block of metrics/retrieval.json.
    latency : ``{system: {"p50_ms": median milliseconds}}``.
    """
    data = measure_table({name: own[name] for name in latency}, ["mrr@10"])
    data["p50_ms"] = [latency[system]["p50_ms"] for system in data.system]
    figure, axes = plt.subplots(figsize=(6, 4))
    for row, bar in zip(data.itertuples(), np.transpose(whiskers(data)), strict=True):
        axes.errorbar(row.p50_ms, row.mean, bar[:, None], marker="o", capsize=3, label=row.system)
    axes.set(xlabel="median ms from question to ranking, one thread", ylabel="MRR@10, own questions", xscale="log")
    axes.legend(loc="upper left", bbox_to_anchor=(1, 1))
    save_figure(figure, data, path)
