"""Compare the answers of two runs, question by question.

    python -m medcards compare HEAD       # the working tree against the last commit
    python -m medcards compare r16 r32    # experiment r32 against r16; branches, tags and commits work too

The command reads the scores that DVC keeps of both runs. For every system whose answers differ it prints the second
run's scores minus the first run's, with 95% intervals (bootstrap over groups of near-duplicates).
"""

import argparse
from collections.abc import Iterator
from typing import TYPE_CHECKING

from medcards import InputError, reason_of

if TYPE_CHECKING:
    import pandas as pd

SCORES_FILE = "data/scores/scores.parquet"
"""Scores of every answer, as the evaluate stage writes them."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("before", help="commit, branch, tag or experiment")
    parser.add_argument("after", nargs="?", help="another one (default: the working tree)")


def run(given: argparse.Namespace) -> Iterator[str]:
    from medcards.answers.comparison import HEADLINE
    from medcards.answers.runs import COMPARED_SCORES, compare_runs, verdict
    from medcards.base.params import Seed, read_params
    from medcards.report.render import markdown_table

    (seed,) = read_params("params.yaml", seed=Seed)
    differences, remarks = compare_runs(read_scores(given.before), read_scores(given.after), seed)
    yield f"{given.after or 'the working tree'} minus {given.before}:\n"
    if differences:
        yield markdown_table(differences, COMPARED_SCORES, "system") + "\n"
    yield from (verdict(system, block[HEADLINE]) for system, block in differences.items() if HEADLINE in block)
    yield from remarks


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
    from dvc.api import DVCFileSystem
    from dvc.exceptions import DvcException
    from dvc.scm import SCMError
    from dvc_data.index import DataIndexDirError

    name = revision or "the working tree"
    try:
        with DVCFileSystem(rev=revision).open(SCORES_FILE) as file:
            return pd.read_parquet(file)
    except (SCMError, DvcException) as error:
        raise InputError(f"{name}: {reason_of(error)}") from None
    except (FileNotFoundError, DataIndexDirError):
        raise InputError(f"{name}: {SCORES_FILE} is not in DVC's cache; `dvc repro` there makes it") from None
