"""Compare the answers of two runs, question by question.

    python -m medcards compare HEAD       # the working tree against the last commit
    python -m medcards compare r16 r32    # experiment r32 against r16; branches, tags and commits work too
    python -m medcards compare HEAD --system lora_rag

The command reads the scores that DVC keeps of both runs. For every system whose answers differ it prints the second
run's scores minus the first run's, with 95% intervals (bootstrap over groups of near-duplicates). For one system it
lists the questions whose sound F1 changed most, with the answers of both runs.
"""

import argparse
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from medcards import InputError, reason_of
from medcards.commands import terminal_width

if TYPE_CHECKING:
    import pandas as pd

THIS = "the working tree"
SCORES_FILE = "data/scores/scores.parquet"
"""Scores of every answer, as the evaluate stage writes them."""
ANSWERS_FILE = "data/answers/answers.jsonl"
"""Every answer, as the answer stage writes them."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("before", help="commit, branch, tag or experiment")
    parser.add_argument("after", nargs="?", help="another one (default: the working tree)")
    parser.add_argument(
        "--system",
        help="answering system whose questions are listed (default: the first of the tuned model that differs)",
    )


def run(given: argparse.Namespace) -> Iterator[str]:
    from medcards.answers.comparison import HEADLINE
    from medcards.answers.runs import COMPARED_SCORES, compare_runs, verdict
    from medcards.answers.won_lost import system_to_list
    from medcards.base.params import Seed, read_params
    from medcards.report.render import markdown_table

    (seed,) = read_params("params.yaml", seed=Seed)
    scores = [read_scores(given.before), read_scores(given.after)]
    differences, remarks = compare_runs(*scores, seed)
    listed = system_to_list(differences, set(scores[0].system) & set(scores[1].system), given.system)
    yield f"{given.after or THIS} minus {given.before}:\n"
    if differences:
        yield markdown_table(differences, COMPARED_SCORES, "system") + "\n"
    yield from (verdict(system, block[HEADLINE]) for system, block in differences.items() if HEADLINE in block)
    yield from remarks
    if listed:
        yield _won_and_lost(scores, [given.before, given.after], listed)


def _won_and_lost(scores: "list[pd.DataFrame]", revisions: list[str | None], system: str) -> str:
    """The questions that a system won and lost, or one remark where the answers of a run are not in DVC's cache."""
    from medcards.answers.won_lost import won_and_lost
    from medcards.report.changes import changes_as_text

    try:
        changes = won_and_lost(scores, [read_texts(revision) for revision in revisions], system)
    except InputError as error:
        return f"The questions that {system} won and lost are not listed: {error}."
    return "\n" + changes_as_text(system, changes, [revision or THIS for revision in revisions], terminal_width())


def read_scores(revision: str | None) -> "pd.DataFrame":
    """The scores of every answer of a run.

    Parameters
    ----------
    revision : commit, branch, tag or experiment; None is the working tree.

    Raises
    ------
    InputError : the revision does not exist, or DVC's cache does not hold its scores.
    """
    import pandas as pd

    return _read(revision, SCORES_FILE, pd.read_parquet)


def read_texts(revision: str | None) -> "pd.DataFrame":
    """The answers of a run, one row per question; see :func:`read_scores`."""
    import pandas as pd

    return _read(revision, ANSWERS_FILE, lambda file: pd.read_json(file, lines=True, dtype=False))


def _read(revision: str | None, file: str, read: "Callable[..., pd.DataFrame]") -> "pd.DataFrame":
    from dvc.api import DVCFileSystem
    from dvc.exceptions import DvcException
    from dvc.scm import SCMError
    from dvc_data.index import DataIndexDirError

    name = revision or THIS
    try:
        with DVCFileSystem(rev=revision).open(file) as opened:
            return read(opened)
    except (SCMError, DvcException) as error:
        raise InputError(f"{name}: {reason_of(error)}") from None
    except (FileNotFoundError, DataIndexDirError):
        raise InputError(f"{name}: {file} is not in DVC's cache; `dvc repro` there makes it") from None
