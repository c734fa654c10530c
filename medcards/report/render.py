"""Pages from the templates in medcards/report/templates, which a person edits without reading Python."""

import math
import re
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined, TemplateError

from medcards import InputError
from medcards.base.stats import LEVEL, SMALLEST_P

TEMPLATES = Path(__file__).parent / "templates"
FORMULA_SIGNS = tuple("=+-@\t\r\n\uff1d\uff0b\uff0d\uff20")
"""First characters of a cell that a spreadsheet takes for a formula; the last four are =+-@ in full width."""

_MARKUP = re.compile(r"[\\|*_~$]|(?<=\])\(")  # also links and images


def percent(share: float, digits: int = 1) -> str:
    """A share in percent.

    >>> percent(0.0993)
    '9.9%'
    """
    return f"{share:.{digits}%}"


def thousands(number: float, digits: int = 0) -> str:
    """A number with commas between thousands.

    >>> thousands(22277)
    '22,277'
    """
    return f"{number:,.{digits}f}"


def change(difference: dict, up: str, down: str, none: str) -> str:
    """The verb that a paired difference supports: ``none`` where its interval holds zero or its corrected p is large.

    >>> change({"mean": 0.2, "lo": -0.1, "hi": 0.5}, "raises", "lowers", "does not change")
    'does not change'
    >>> change({"mean": 0.2, "lo": 0.1, "hi": 0.5, "p_holm": 0.2}, "raises", "lowers", "does not change")
    'does not change'
    """
    if difference.get("p_holm", 0) >= LEVEL:
        return none
    if difference["lo"] > 0:
        return up
    return down if difference["hi"] < 0 else none


def one_line(text: str, limit: int = 600) -> str:
    """A text of the deck or of a model on one line, without markup, cut after ``limit`` characters.

    Markdown shows the characters of the text. A backtick becomes an apostrophe.

    >>> one_line("a <b>\\n| *c* [d](e)")
    'a &lt;b> \\\\| \\\\*c\\\\* [d]\\\\(e)'
    """
    text = " ".join(str(text).split())
    text = text if len(text) <= limit else f"{text[:limit]} ... ({len(text.split()):,} words)"
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace("`", "'")
    return _MARKUP.sub(r"\\\g<0>", text)


def spreadsheet_text(text: str) -> str:
    """A text that a spreadsheet shows and does not run: an apostrophe stands before a sign that begins a formula.

    Source: OWASP, CSV Injection.

    >>> spreadsheet_text("=1+1"), spreadsheet_text("1+1")
    ("'=1+1", '1+1')
    """
    return f"'{text}" if text.startswith(FORMULA_SIGNS) else text


def cell(value: dict | float | str) -> str:
    """A figure as a table shows it, with its interval or its range if it has one.

    >>> cell({"mean": 0.5, "lo": 0.4, "hi": 0.61234, "n": 7})
    '0.500 [0.400, 0.612]'
    >>> cell({"mean": 0.5, "smallest": 0.4, "largest": 0.61234, "n": 4})
    '0.500 (0.400 to 0.612)'
    >>> cell({"mean": 0.5, "sd": 0.08, "smallest": 0.4, "largest": 0.61234, "n": 4})
    '0.500 ± 0.080 (0.400 to 0.612)'
    >>> cell({"mean": 0.5, "n": 2, "p": 1.0})
    '0.500'
    """
    if isinstance(value, str):
        return value
    if isinstance(value, float):
        return f"{value:.3f}"
    if "smallest" in value:
        deviation = f" ± {value['sd']:.3f}" if "sd" in value else ""
        return f"{value['mean']:.3f}{deviation} ({value['smallest']:.3f} to {value['largest']:.3f})"
    if "lo" not in value:
        return f"{value['mean']:.3f}"
    return f"{value['mean']:.3f} [{value['lo']:.3f}, {value['hi']:.3f}]"


def p_text(difference: dict, floor: float = SMALLEST_P) -> str:
    """The corrected p value of a difference, or a bound where its test gives no smaller p.

    Parameters
    ----------
    difference : with ``p`` and ``p_holm``.
    floor : the smallest ``p`` that the test gives: that of a bootstrap by default, 0 for a t test.

    Examples
    --------
    >>> p_text({"p": 0.0123, "p_holm": 0.0246})
    '0.025'
    >>> p_text({"p": SMALLEST_P, "p_holm": 11 * SMALLEST_P})
    '< 0.002'
    """
    if difference["p"] > 1.5 * floor and difference["p_holm"] >= 0.001:
        return f"{difference['p_holm']:.3f}"
    return f"< {math.floor(1000 * difference['p_holm'] + 1) / 1000:.3f}"


def tested(difference: dict, floor: float = SMALLEST_P) -> str:
    """A difference with its interval, and with its corrected p where it has one, see :func:`p_text`.

    >>> tested({"mean": 0.5, "lo": 0.4, "hi": 0.6, "n": 3, "p": 0.01, "p_holm": 0.02})
    '0.500 [0.400, 0.600], p 0.020'
    """
    return f"{cell(difference)}, p {p_text(difference, floor)}" if "p_holm" in difference else cell(difference)


def difference_cells(differences: dict[str, dict]) -> dict[str, dict[str, str]]:
    """Rows of a table with the t interval and the corrected p of each difference in one cell.

    >>> difference_cells({"a-b": {"f1": {"mean": 0.5, "lo": 0.4, "hi": 0.6, "n": 3, "p": 0.01, "p_holm": 0.02}}})
    {'a-b': {'f1': '0.500 [0.400, 0.600], p 0.020'}}
    """
    return {
        pair: {score: tested(difference, floor=0) for score, difference in block.items()}
        for pair, block in differences.items()
    }


def markdown_table(rows: dict[str, dict], columns: Sequence[str], head: str) -> str:
    """A Markdown table: one row per key of ``rows``, one column per name in ``columns``, a dash where a row has none.

    Parameters
    ----------
    rows : ``{name: {column: interval, spread, number or text}}``.
    columns : the columns to show, in this order.
    head : the heading of the first column, which holds the names.
    """
    cells = [[name, *(cell(row[key]) if key in row else "-" for key in columns)] for name, row in rows.items()]
    alignment = ["left", *["right"] * len(columns)]
    return pd.DataFrame(cells, columns=[head, *columns]).to_markdown(
        index=False, tablefmt="pipe", disable_numparse=True, colalign=alignment
    )


def render(template: str, **data: object) -> str:
    """Fill a template with data.

    Parameters
    ----------
    template : the file's name in medcards/report/templates.
    data : what the template names. It also has the filters ``cell``, ``tested``, ``percent``, ``thousands``,
        ``change`` and ``one_line``, and the function ``table``, see :func:`markdown_table`.

    Returns
    -------
    The page, which ends with one newline.

    Raises
    ------
    InputError : the template has an error, or names something that is not in ``data``.
    """
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES), undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {filter.__name__: filter for filter in (cell, tested, percent, thousands, change, one_line)}
    environment.globals["table"] = markdown_table
    try:
        return environment.get_template(template).render(**data).strip("\n") + "\n"
    except TemplateError as error:
        raise InputError(f"{TEMPLATES / template}: {error}") from None
