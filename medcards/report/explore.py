"""Figures of the deck: leakage into the test split, lengths, words, clusters, topics, the t-SNE map."""

from pathlib import Path

import pandas as pd
import seaborn as sns
from matplotlib import pyplot as plt

from medcards.report.style import RANGE, interval_line, publish_table, read_figure_table, save_figure

SIDES = ("questions", "answers")
UNITS = ("words", "model tokens")
NAME_WORDS = 3
"""Words of a cluster's or topic's name in a legend."""


def draw_audit(figures: Path, folder: Path) -> None:
    """Draw what the stage audit measured.

    Parameters
    ----------
    figures : data/figures/audit.
    folder : the folder for the pictures and their tables; it is made.
    """
    folder.mkdir(parents=True)
    plot_leakage(read_figure_table(figures / "similarity.csv"), folder / "similarity.png")
    publish_table(read_figure_table(figures / "closest.csv"), folder / "closest.csv")


def draw_eda(figures: Path, eda: dict, folder: Path) -> None:
    """Draw what the stage eda measured.

    Parameters
    ----------
    figures : data/figures/eda.
    eda : its metrics.
    folder : the folder for the pictures and their tables; it is made.
    """
    folder.mkdir(parents=True)
    plot_lengths(read_figure_table(figures / "lengths.csv"), folder / "lengths.png")
    plot_vocabulary(read_figure_table(figures / "words.csv"), eda, folder / "words.png")
    plot_shares(read_figure_table(figures / "terms.csv"), "share of the texts (%)", folder / "terms.png")
    plot_shares(
        read_figure_table(figures / "first_words.csv"), "share of the questions (%)", folder / "first_words.png"
    )
    plot_clusters(eda["kmeans"], folder / "clusters.png")
    if "left_out" not in eda["topics"]:
        plot_topic_models(read_figure_table(figures / "topic_models.csv"), folder / "topic_models.png")
    for name in ("cluster_names", "coherence", "topics"):
        publish_table(read_figure_table(figures / f"{name}.csv"), folder / f"{name}.csv")
    points = read_figure_table(figures / "map.csv")
    for by, table in (("cluster", "cluster_names"), ("topic", "topics")):
        plot_map(points, by, short_names(figures / f"{table}.csv"), folder / f"tsne_{by}.png")


def short_names(path: Path) -> dict[int, str]:
    """The first words of the terms of each cluster or topic, by its number; ``path`` is a table with ``terms``."""
    terms = read_figure_table(path).terms.fillna("").astype(str)  # a cluster of texts without words has no terms
    return terms.str.split().str[:NAME_WORDS].str.join(" ").to_dict()


def plot_leakage(shares: pd.DataFrame, path: Path) -> None:
    """Plot the share of test cards with a training card at least as similar as x; one panel per side and encoder.

    Parameters
    ----------
    shares : ``similarity``, and one column per side, encoder and split, such as ``questions bi-encoder group``.
    """
    encoders = list(dict.fromkeys(name.split()[1] for name in shares.columns.drop("similarity")))
    figure, panels = plt.subplots(len(SIDES), len(encoders), figsize=(10, 7), sharex=True, sharey=True, squeeze=False)
    for row, side in zip(panels, SIDES, strict=True):
        for axes, encoder in zip(row, encoders, strict=True):
            for split, style in (("random", "--"), ("group", "-")):
                axes.plot(shares.similarity, shares[f"{side} {encoder} {split}"], style, label=f"{split} split")
            axes.set(title=f"{side}, {encoder}", xlim=(0.2, 1))
    for axes in panels[-1]:
        axes.set_xlabel("cosine similarity")
    for axes in panels[:, 0]:
        axes.set_ylabel("share of test cards with a\ntraining card at least this similar")
    panels[0, 0].legend()
    figure.tight_layout()
    save_figure(figure, shares, path)


def plot_lengths(counts: pd.DataFrame, path: Path) -> None:
    """Plot the distribution of lengths: one panel per unit, questions and answers in each.

    Parameters
    ----------
    counts : ``text``, ``unit``, ``length`` and ``texts``, the number of texts with this length.
    """
    figure, panels = plt.subplots(1, len(UNITS), figsize=(11, 4))
    for axes, unit in zip(panels, UNITS, strict=True):
        rows = counts[counts.unit == unit]
        lengths = rows.loc[rows.index.repeat(rows.texts)].reset_index(drop=True)
        shown = lengths[lengths.length <= lengths.length.quantile(0.99)]
        look = {"hue": "text", "hue_order": SIDES, "element": "step", "common_norm": False}
        sns.histplot(shown, x="length", bins=40, ax=axes, **look)
        axes.set(xlabel=f"length ({unit}), up to the 99th percentile", ylabel="texts")
    figure.tight_layout()
    save_figure(figure, counts, path)


def plot_vocabulary(words: pd.DataFrame, eda: dict, path: Path) -> None:
    """Plot Zipf's law and Heaps' law of questions and answers.

    Parameters
    ----------
    words : ``x``, ``y``, ``law`` (zipf or heaps) and ``text`` (questions or answers).
    eda : the metrics of eda, which hold the exponents.
    """
    figure, panels = plt.subplots(1, 2, figsize=(11, 4))
    for axes, law in zip(panels, ("zipf", "heaps"), strict=True):
        for text in SIDES:
            rows = words[(words.law == law) & (words.text == text)]
            axes.plot(rows.x, rows.y, ".-", label=f"{text}: exponent {eda[text][f'{law}_exponent']:.2f}")
        axes.set(xscale="log", yscale="log", title=law.capitalize())
        axes.legend()
    panels[0].set(xlabel="rank of the word", ylabel="occurrences")
    panels[1].set(xlabel="words read", ylabel="distinct words")
    figure.tight_layout()
    save_figure(figure, words, path)


def plot_shares(shares: pd.DataFrame, label: str, path: Path) -> None:
    """Plot bars of ``share``: one panel per value of ``of``, one bar per ``text``."""
    titles = list(dict.fromkeys(shares.of))
    figure, panels = plt.subplots(1, len(titles), figsize=(5.5 * len(titles), 5.5), squeeze=False)
    for axes, title in zip(panels[0], titles, strict=True):
        rows = shares[shares.of == title]
        axes.barh(rows.text.astype(str), 100 * rows.share)
        axes.invert_yaxis()
        axes.set(xlabel=label, title=title)
        axes.grid(axis="y", visible=False)
    figure.tight_layout()
    save_figure(figure, shares, path)


def plot_clusters(kmeans: dict, path: Path) -> None:
    """Plot every score of every number of clusters: one panel per score.

    Whiskers show the interval of the silhouette, and the range over the fits of the other scores.

    Parameters
    ----------
    kmeans : ``k``, the number that was chosen, and ``grid``, ``{number of clusters: {score: interval or spread}}``.
    """
    labels = {
        "silhouette": "silhouette (cosine), 95% interval",
        "stability": "stability (adjusted Rand index), range of {n} pairs of fits",
        "davies_bouldin": "Davies-Bouldin (lower is better), range of {n} fits",
    }
    rows = [{"k": int(k), "score": name} | of for k, scores in kmeans["grid"].items() for name, of in scores.items()]
    data = pd.DataFrame(rows).sort_values("k", kind="stable")
    figure, panels = plt.subplots(1, 3, figsize=(13, 4))
    for axes, (name, label) in zip(panels, labels.items(), strict=True):
        scores = data[data.score == name]
        interval_line(axes, scores.k, scores, ("lo", "hi") if name == "silhouette" else RANGE)
        axes.axvline(kmeans["k"], linestyle=":", color="gray")
        label = label.format(n=max(scores.n, default=0)).replace(", ", "\n", 1)
        axes.set(xlabel="clusters k (dotted: chosen)", ylabel=label, xticks=scores.k)
    figure.tight_layout()
    wide = data.pivot(index="k", columns="score", values=["mean", "lo", "hi", *RANGE]).dropna(axis=1, how="all")
    wide.columns = [name if of == "mean" else f"{name}_{of}" for of, name in wide.columns]
    save_figure(figure, wide.reset_index(), path)


def plot_topic_models(data: pd.DataFrame, path: Path) -> None:
    """Plot coherence and diversity of every topic model by its number of topics.

    Where a method has several seeds, whiskers show their range.

    Parameters
    ----------
    data : ``method``, ``topics``, ``seed``, ``c_v``, ``npmi`` and ``diversity``.
    """
    labels = {"c_v": "coherence c_v", "npmi": "coherence NPMI", "diversity": "topic diversity"}
    seeds = data.seed.nunique()
    range_of = f"\nrange of {seeds} seeds" if seeds > 1 else ""
    figure, panels = plt.subplots(1, 3, figsize=(13, 4))
    for axes, (name, label) in zip(panels, labels.items(), strict=True):
        for method, rows in data.groupby("method", sort=False):
            spread = rows.groupby("topics")[name].agg(mean="mean", smallest="min", largest="max")
            if rows.seed.nunique() > 1:
                interval_line(axes, spread.index, spread, RANGE, label=method)
            else:
                axes.plot(spread.index, spread["mean"], marker="o", label=method)
        axes.set(xlabel="topics", ylabel=label + range_of, xticks=sorted(data.topics.unique()))
    panels[-1].legend(loc="upper left", bbox_to_anchor=(1, 1))
    figure.tight_layout()
    save_figure(figure, data, path)


def plot_map(points: pd.DataFrame, by: str, names: dict[int, str], path: Path) -> None:
    """Plot the t-SNE map coloured by ``by``. Each number stands at its median point, its name in the legend.

    Parameters
    ----------
    points : ``x``, ``y`` and ``by``, one row per answer.
    by : ``cluster`` or ``topic``.
    names : the name of each number.
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
    save_figure(figure, points, path)
