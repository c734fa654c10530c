"""The pictures of the retrieval systems, each with its data as CSV."""

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt

from medcards.report.style import interval_bars, save, whiskers
from medcards.search.evaluation import DEPTHS, MEASURES


def interval_table(block: dict[str, dict], measures, **also: str) -> pd.DataFrame:
    """Intervals of every system as rows."""
    return pd.DataFrame(
        [
            {"system": system, "measure": measure} | also | intervals[measure]
            for system, intervals in block.items()
            if system != "differences"
            for measure in measures
        ]
    )


def plot_quality(test: dict[str, dict], curves: pd.DataFrame, folder: Path) -> None:
    """Measures on the own questions, MRR@10 on every query set, recall by depth."""
    data = interval_table(test["own"], MEASURES)
    label = f"mean over {data.n.max()} test questions, 95% interval"
    figure = interval_bars(data, "measure", "system", label)
    figure.axes[0].set(ylim=(0, 1), xlabel="measure")
    save(figure, data, folder / "measures.png")

    data = pd.concat([interval_table(block, ["mrr@10"], query_set=name) for name, block in test.items()])
    figure = interval_bars(data, "query_set", "system", "MRR@10, 95% interval")
    figure.axes[0].set(ylim=(0, 1), xlabel="query set")
    save(figure, data, folder / "query_sets.png")

    figure, axes = plt.subplots(figsize=(6, 4))
    for system in curves.columns.drop("k").intersection(list(test["own"])):
        axes.plot(curves.k, curves[system], marker="o", label=system)
    axes.set(xlabel="k", ylabel="recall@k, own test questions", xscale="log", ylim=(None, 1))
    axes.set_xticks(DEPTHS, DEPTHS)
    axes.legend()
    save(figure, curves, folder / "recall_at_k.png")


def plot_latency(own: dict[str, dict], times: dict[str, dict], path: Path) -> None:
    """Quality against what a question costs."""
    data = interval_table({system: own[system] for system in times}, ["mrr@10"])
    data["p50_ms"] = [times[system]["p50_ms"] for system in data.system]
    figure, axes = plt.subplots(figsize=(6, 4))
    for row, bar in zip(data.itertuples(), np.transpose(whiskers(data)), strict=True):
        axes.errorbar(row.p50_ms, row.mean, bar[:, None], marker="o", capsize=3, label=row.system)
    axes.set(xlabel="median ms from question to ranking, one thread", ylabel="MRR@10, own test questions", xscale="log")
    axes.legend(loc="upper left", bbox_to_anchor=(1, 1))
    save(figure, data, path)
