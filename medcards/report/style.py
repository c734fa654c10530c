"""The look of everything that a person reads: figures with their data as CSV, numbers and tables in Markdown."""

from io import BytesIO
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import pandas as pd
import seaborn as sns

from medcards import InputError
from medcards.base.files import write_csv
from medcards.report.render import spreadsheet_text

sns.set_theme(style="whitegrid", context="notebook")

INTERVAL = ("mean", "lo", "hi", "n")
RANGE = ("smallest", "largest")
"""The ends of a spread, see :func:`medcards.base.stats.spread`."""


def read_figure_table(path: Path) -> pd.DataFrame:
    """Read a table that a stage wrote as CSV. Only an empty cell is a missing value: "null" and "NA" are words."""
    if not path.exists():
        raise InputError(f"{path} is missing: run `dvc repro`")
    return pd.read_csv(path, keep_default_na=False, na_values=[""], dtype={"card_id": str})


def publish_table(data: pd.DataFrame, path: Path) -> None:
    """Write a table as CSV for people, whose spreadsheets run no text of it, see :func:`spreadsheet_text`.

    A carriage return becomes a line feed: pandas does not quote it, so the text after it would be a row of its own.
    """
    shown = data.map(lambda value: spreadsheet_text(value).replace("\r", "\n") if isinstance(value, str) else value)
    write_csv(shown, path)


def save_figure(figure: plt.Figure, data: pd.DataFrame, path: Path) -> None:
    """Write ``path`` (a .png) and the data that it shows as .csv beside it."""
    publish_table(data, path.with_suffix(".csv"))
    drawn = BytesIO()  # Pillow does not report a full disk
    figure.savefig(drawn, dpi=120, bbox_inches="tight")
    path.write_bytes(drawn.getvalue())
    plt.close(figure)


def interval_columns(interval: dict) -> dict[str, float]:
    """The cells of an interval in a table, in the order of :data:`INTERVAL`; JSON sorts its keys otherwise."""
    return {key: interval[key] for key in INTERVAL}


def whiskers(rows: pd.DataFrame, ends: tuple[str, str] = ("lo", "hi")) -> list[pd.Series]:
    """Distances of the two ``ends`` from ``mean``, as matplotlib takes them. Rounding makes none negative."""
    low, high = ends
    return [(rows["mean"] - rows[low]).clip(lower=0), (rows[high] - rows["mean"]).clip(lower=0)]


def interval_line(axes: plt.Axes, x: object, rows: pd.DataFrame, ends: tuple[str, str] = ("lo", "hi"), **style) -> None:
    """Draw a line through ``mean`` with whiskers between the two ``ends``."""
    axes.errorbar(x, rows["mean"], whiskers(rows, ends), marker="o", capsize=3, **style)


def interval_band(axes: plt.Axes, x: object, rows: pd.DataFrame, label: str) -> None:
    """Draw a line through ``mean`` with a band between ``lo`` and ``hi``."""
    (line,) = axes.plot(x, rows["mean"], label=label)
    axes.fill_between(x, rows.lo, rows.hi, color=line.get_color(), alpha=0.15, linewidth=0)


def interval_bars(data: pd.DataFrame, x: str, hue: str, label: str) -> plt.Figure:
    """Draw bars of ``mean`` with whiskers from ``lo`` to ``hi``: one group per ``x``, one colour per ``hue``."""
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
