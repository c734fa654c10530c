"""One look for every figure, and each figure's data beside it as CSV."""

from io import BytesIO
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import pandas as pd
import seaborn as sns

sns.set_theme(style="whitegrid", context="notebook")


def save(figure: plt.Figure, data: pd.DataFrame, path: Path) -> None:
    """Write ``path`` (a .png) and the data that it shows as .csv beside it."""
    write_csv(data, path.with_suffix(".csv"))
    drawn = BytesIO()  # Pillow would not say that the disk is full
    figure.savefig(drawn, dpi=120, bbox_inches="tight")
    path.write_bytes(drawn.getvalue())
    plt.close(figure)


def write_csv(data: pd.DataFrame, path: Path) -> None:
    """Write a figure's data, the way every figure's data is written."""
    path.parent.mkdir(parents=True, exist_ok=True)
    data.to_csv(path, index=False, float_format="%.6g", lineterminator="\n")


def whiskers(rows: pd.DataFrame) -> list[pd.Series]:
    """How far ``lo`` and ``hi`` are from ``mean``, as matplotlib wants it; never below zero by rounding."""
    return [(rows["mean"] - rows["lo"]).clip(lower=0), (rows["hi"] - rows["mean"]).clip(lower=0)]


def interval_line(axes: plt.Axes, x: object, rows: pd.DataFrame, **style) -> None:
    """A line through ``mean`` with whiskers from ``lo`` to ``hi``."""
    axes.errorbar(x, rows["mean"], whiskers(rows), marker="o", capsize=3, **style)


def interval_bars(data: pd.DataFrame, x: str, hue: str, label: str) -> plt.Figure:
    """Bars of ``mean`` with whiskers from ``lo`` to ``hi``, in groups of ``x``, one colour a ``hue``."""
    figure, axes = plt.subplots(figsize=(8, 4.5))
    groups, hues = list(dict.fromkeys(data[x])), list(dict.fromkeys(data[hue]))
    width = 0.8 / len(hues)
    for number, name in enumerate(hues):
        rows = data[data[hue] == name].set_index(x).reindex(groups)
        places = [place - 0.4 + width * (number + 0.5) for place in range(len(groups))]
        axes.bar(places, rows["mean"], width, yerr=whiskers(rows), capsize=3, label=name)
    axes.set_xticks(range(len(groups)), groups)
    axes.set_ylabel(label)
    axes.legend(title=hue, loc="upper left", bbox_to_anchor=(1, 1))
    return figure
