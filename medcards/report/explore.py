"""The pictures of the exploration, each with its data as CSV beside it."""

from pathlib import Path

import pandas as pd
import seaborn as sns
from matplotlib import pyplot as plt

from medcards.report.style import interval_line, save


def plot_lengths(lengths: pd.DataFrame, path: Path) -> None:
    """How many texts have which length: one panel a unit, questions and answers in each.

    ``lengths`` has the columns ``text``, ``unit`` and ``length``, one row a text.
    """
    counts = lengths.value_counts().rename("texts").reset_index().sort_values(["unit", "text", "length"])
    figure, panels = plt.subplots(1, 2, figsize=(11, 4))
    for axes, (unit, rows) in zip(panels, lengths.groupby("unit", sort=False), strict=True):
        end = rows.length.quantile(0.99)
        shown = rows[rows.length <= end]
        sns.histplot(shown, x="length", hue="text", bins=40, element="step", common_norm=False, ax=axes)
        axes.set(xlabel=f"length ({unit}), up to the 99th percentile", ylabel="texts")
    figure.tight_layout()
    save(figure, counts, path)


def plot_vocabulary(zipf: dict, heaps: dict, path: Path) -> None:
    """Zipf's law and Heaps' law; each dict gives the (table, exponent) of ``questions`` and of ``answers``."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4))
    for name, (table, exponent) in zipf.items():
        left.plot(table["rank"], table["count"], ".-", label=f"{name}: exponent {exponent:.2f}")
    left.set(xlabel="rank of the word", ylabel="occurrences", xscale="log", yscale="log", title="Zipf")
    for name, (table, exponent) in heaps.items():
        right.plot(table["words"], table["vocabulary"], ".-", label=f"{name}: exponent {exponent:.2f}")
    right.set(xlabel="words read", ylabel="distinct words", xscale="log", yscale="log", title="Heaps")
    tables = [
        table.set_axis(["x", "y"], axis=1).assign(law=law, text=name)
        for law, laws in (("zipf", zipf), ("heaps", heaps))
        for name, (table, _) in laws.items()
    ]
    for axes in (left, right):
        axes.legend()
    save(figure, pd.concat(tables), path)


def plot_shares(tables: dict[str, tuple[pd.DataFrame, str]], label: str, path: Path) -> None:
    """Bars of ``share``, one panel a table; a table comes with the column that names its bars."""
    figure, panels = plt.subplots(1, len(tables), figsize=(5.5 * len(tables), 5.5), squeeze=False)
    for axes, (title, (table, column)) in zip(panels[0], tables.items(), strict=True):
        axes.barh(table[column], 100 * table.share)
        axes.invert_yaxis()
        axes.set(xlabel=label, title=title)
        axes.grid(axis="y", visible=False)
    figure.tight_layout()
    parts = [table.rename(columns={column: "text"}).assign(of=title) for title, (table, column) in tables.items()]
    save(figure, pd.concat(parts), path)


def plot_clusters(scores: dict[int, dict], chosen: int, path: Path) -> None:
    """Every score of every number of clusters, with its interval; one panel a score."""
    labels = {
        "silhouette": "silhouette (cosine)",
        "stability": "stability (adjusted Rand index)",
        "davies_bouldin": "Davies-Bouldin (lower is better)",
    }
    data = pd.DataFrame([{"k": k, "score": name} | row for k, found in scores.items() for name, row in found.items()])
    figure, panels = plt.subplots(1, 3, figsize=(13, 4))
    for axes, (name, label) in zip(panels, labels.items(), strict=True):
        rows = data[data.score == name]
        interval_line(axes, rows.k, rows)
        axes.axvline(chosen, linestyle=":", color="gray")
        axes.set(xlabel="clusters k (dotted: chosen)", ylabel=label, xticks=list(scores))
    figure.tight_layout()
    wide = data.pivot(index="k", columns="score", values=["mean", "lo", "hi"])
    wide.columns = [name if of == "mean" else f"{name}_{of}" for of, name in wide.columns]
    save(figure, wide.reset_index(), path)


def plot_coherence(data: pd.DataFrame, path: Path) -> None:
    """c_v and diversity of every topic model by its number of topics, with the range over seeds.

    ``data`` has the columns ``method``, ``topics``, ``seed``, ``c_v``, ``npmi``, ``diversity``.
    """
    labels = {"c_v": "coherence c_v", "npmi": "coherence NPMI", "diversity": "topic diversity"}
    figure, panels = plt.subplots(1, 3, figsize=(13, 4))
    for axes, (name, label) in zip(panels, labels.items(), strict=True):
        for method, rows in data.groupby("method", sort=False):
            spread = rows.groupby("topics")[name].agg(mean="mean", lo="min", hi="max")
            interval_line(axes, spread.index, spread, label=method)
        axes.set(xlabel="topics", ylabel=label, xticks=sorted(data.topics.unique()))
    panels[-1].legend(loc="upper left", bbox_to_anchor=(1, 1))
    figure.tight_layout()
    save(figure, data, path)


def plot_map(points: pd.DataFrame, by: str, names: dict[int, str], path: Path) -> None:
    """The t-SNE map coloured by ``by``; each colour's number stands at its median point, its name in the legend.

    ``points`` has the columns ``x``, ``y`` and ``by``.
    """
    figure, axes = plt.subplots(figsize=(8, 7))
    colours = dict(zip(sorted(names), sns.color_palette("husl", len(names)), strict=True))
    for number, rows in points.groupby(by):
        label = f"{number}  {names[number]}"
        axes.scatter(rows.x, rows.y, s=11, linewidth=0, color=colours[number], label=label)
    box = {"fc": "white", "ec": "none", "alpha": 0.75, "pad": 1.5}
    for number, (x, y) in points.groupby(by)[["x", "y"]].median().iterrows():
        axes.text(x, y, str(number), ha="center", va="center", weight="bold", size=12, bbox=box)
    axes.set(xlabel="t-SNE 1", ylabel="t-SNE 2", title=f"{len(points):,} answers, coloured by {by}")
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), markerscale=3, fontsize=10)
    save(figure, points, path)
