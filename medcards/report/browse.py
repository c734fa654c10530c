"""The answers of a run to browse: one long table, and one page for the browser that needs nothing else."""

import csv
import json
from pathlib import Path

import numpy as np
import pandas as pd

from medcards import InputError
from medcards.answers.comparison import HEADLINE
from medcards.answers.scores import token_f1
from medcards.base.exports import check_target
from medcards.base.files import atomic
from medcards.report.answers import answers_and_scores, systems_by_kind
from medcards.report.render import render, spreadsheet_text

FIRST = ("system", "card_id", "group", "split", "question", "answer", "reference", "read")
FIRST += ("similarity_to_training", "contradictions")
"""Columns of the table before the scores. The scores of some runs have no split."""
OF_QUESTION = ("card_id", "split", "question", "reference", "similarity_to_training")
"""Columns that are equal for all systems of a question."""
KIND = "contradiction_"
"""Prefix of the scores that count one kind of contradiction."""


def export_answers(data: Path, to: Path, overwrite: bool = False) -> pd.DataFrame:
    """Write the answers of a run as CSV, as Parquet and as a page.

    Parameters
    ----------
    data : the folder that the pipeline wrote.
    to : the folder to write, with answers.csv, answers.parquet and answers.html. In the CSV a text that a spreadsheet
        takes for a formula starts with an apostrophe. The Parquet file holds the texts as they are.
    overwrite : whether an earlier export is replaced.

    Returns
    -------
    table : see :func:`answers_table`.

    Raises
    ------
    InputError : answers or scores are missing, they do not belong together, or the target exists.
    """
    check_target(to, overwrite)
    table = answers_table(data)
    with atomic(to) as folder:
        folder.mkdir()
        table.to_parquet(folder / "answers.parquet", index=False)
        table.map(_cell).to_csv(
            folder / "answers.csv",
            index=False,
            float_format="%.6g",
            lineterminator="\n",
            quoting=csv.QUOTE_ALL,
            encoding="utf-8-sig",  # Excel takes UTF-8 without a mark for another encoding
        )
        (folder / "answers.html").write_text(answers_page(table), encoding="utf-8")
    return table


def answers_table(data: Path) -> pd.DataFrame:
    """The answers with their scores, one row per question and system.

    Returns
    -------
    table : ``system``, ``card_id``, ``group``, ``split`` (where the scores have it), ``question``, ``answer``,
        ``reference``, ``read`` (a list of texts, or None), ``similarity_to_training``, ``contradictions`` (the kinds
        that were found, with commas), and every score.

    Raises
    ------
    InputError : answers or scores are missing, or the scores are those of other answers.
    """
    answered, scores = answers_and_scores(data)
    rows = [
        {
            "system": system,
            "card_id": asked.card_id,
            "question": asked.question,
            "answer": answer,
            "reference": asked.reference,
            "read": asked.read.get(system),
            "similarity_to_training": asked.similarity_to_training,
        }
        for asked in answered.itertuples()
        for system, answer in asked.answers.items()
    ]
    kinds = [name for name in scores if name.startswith(KIND)]
    found = [", ".join(name.removeprefix(KIND) for name in kinds if row[name] == 1) for _, row in scores.iterrows()]
    table = pd.DataFrame(rows).merge(scores.assign(contradictions=found), on=["system", "card_id"])
    f1 = [token_f1(answer, reference) for answer, reference in zip(table.answer, table.reference, strict=True)]
    if not len(table) == len(rows) == len(scores) or not np.allclose(f1, table.token_f1):
        raise InputError(f"{data}/scores holds the scores of other answers: run `dvc repro evaluate`")
    return table[[*(name for name in FIRST if name in table), *_scores_of(table)]]


def answers_page(table: pd.DataFrame) -> str:
    """The table as one HTML page with filters. It loads nothing, and it shows every text as text.

    Parameters
    ----------
    table : see :func:`answers_table`.
    """
    scores, questions = _scores_of(table), {}
    for row in json.loads(table.to_json(orient="records", double_precision=4)):  # NaN becomes null
        known = {name: row[name] for name in OF_QUESTION if name in row}
        questions.setdefault(row["card_id"], known | {"answers": {}})["answers"][row["system"]] = {
            "text": row["answer"],
            "read": row["read"] or [],
            "contradictions": row["contradictions"].split(", ") if row["contradictions"] else [],
            "scores": [row[name] for name in scores],
        }
    kinds = systems_by_kind({system: {} for system in table.system.unique()})
    return render(
        "answers.html.jinja",
        data={
            "kinds": [[kind, list(systems)] for kind, systems in kinds.items()],  # tojson sorts the keys of a dict
            "scores": scores,
            "headline": HEADLINE,
            "contradictions": [name.removeprefix(KIND) for name in scores if name.startswith(KIND)],
            "questions": list(questions.values()),
        },
    )


def _scores_of(table: pd.DataFrame) -> list[str]:
    """The names of the scores among the columns of the table."""
    numbers = table.select_dtypes("number").columns
    return [name for name in numbers if name not in ("group", "similarity_to_training")]


def _cell(value: object) -> object:
    """A value as a cell for spreadsheets. A list has one text per line."""
    text = "\n".join(value) if isinstance(value, list) else value
    return spreadsheet_text(text) if isinstance(text, str) else text
