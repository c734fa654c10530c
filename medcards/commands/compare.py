"""Compare the answers of runs: two runs question by question, seeds, or a curve.

    python -m medcards compare HEAD       # the working tree against the last commit
    python -m medcards compare r16 r32    # experiment r32 against r16; branches, tags and commits work too
    python -m medcards compare HEAD --system lora_rag
    python -m medcards compare --seeds s42 s43 s44
    python -m medcards compare --curve rows.train_cards c50 c100 c200 --plot curve.png

The command reads what DVC keeps of the runs. For every system whose answers differ, the first form prints the second
run's scores minus the first run's, with 95% intervals (bootstrap over groups of near-duplicates). For one system it
lists the questions whose sound F1 changed most, with the answers of both runs. --seeds groups runs that differ in the
seed only. For one group it prints mean and spread over the seeds, and differences between systems. For two groups it
prints the difference of each system. Its intervals are t intervals over seeds. --curve prints the tuned model's
validation loss and scores against one parameter.
"""

import argparse
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

from medcards import InputError, reason_of
from medcards.commands import terminal_width

if TYPE_CHECKING:
    import pandas as pd

    from medcards.answers.studies import Run

THIS = "the working tree"
SCORES_FILE = "data/scores/scores.parquet"
"""Scores of every answer, as the evaluate stage writes them."""
ANSWERS_FILE = "data/answers/answers.jsonl"
"""Every answer, as the answer stage writes them."""
LIKELIHOOD_FILE = "data/figures/finetune/validation.parquet"
"""Loss of each validation card, as the finetune stage writes it."""
PARAMS_FILE = "params.yaml"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "runs", nargs="+", metavar="RUN", help="commit, branch, tag or experiment; one alone: against the working tree"
    )
    kind = parser.add_mutually_exclusive_group()
    kind.add_argument("--seeds", action="store_true", help="runs that differ in the seed, in one or two groups")
    kind.add_argument("--curve", metavar="PARAMETER", help="runs that differ in a number, such as rows.train_cards")
    parser.add_argument(
        "--system",
        help="for two runs: system whose questions are listed (default: the first of the tuned model that differs)",
    )
    parser.add_argument("--plot", metavar="FILE", type=Path, help="a .png to draw, with its data as .csv beside it")


def run(given: argparse.Namespace) -> Iterator[str]:
    if given.plot and not (given.seeds or given.curve):
        raise InputError("--plot draws seeds or a curve: add --seeds or --curve")
    if given.plot and given.plot.suffix != ".png":
        raise InputError(f"--plot {given.plot}: name a file that ends in .png")
    if given.system and (given.seeds or given.curve):
        raise InputError("--system lists the questions of two runs: leave it out with --seeds and --curve")
    if given.seeds:
        yield from over_seeds(given)
    elif given.curve:
        yield from over_parameter(given)
    else:
        yield from two_runs(*given.runs, system=given.system)


def two_runs(before: str, after: str | None = None, *more: str, system: str | None = None) -> Iterator[str]:
    """The lines that compare two runs by question.

    Parameters
    ----------
    system : the answering system whose questions are listed.
    """
    import pandas as pd

    from medcards.answers.comparison import HEADLINE
    from medcards.answers.runs import COMPARED_SCORES, compare_runs, verdict
    from medcards.answers.studies import split_remark
    from medcards.answers.won_lost import system_to_list
    from medcards.base.params import Seed, read_params
    from medcards.report.render import markdown_table

    if more:
        raise InputError(f"{len(more) + 2} runs: two are compared by question; more need --seeds or --curve")
    (seed,) = read_params(PARAMS_FILE, seed=Seed)
    scores = [pd.read_parquet(file) for name in (before, after) for file in read_kept(name, SCORES_FILE)]
    differences, remarks = compare_runs(*scores, seed)
    listed = system_to_list(differences, set(scores[0].system) & set(scores[1].system), system)
    yield f"{after or THIS} minus {before}:\n"
    if differences:
        yield markdown_table(differences, COMPARED_SCORES, "system") + "\n"
    yield from (verdict(system, block[HEADLINE]) for system, block in differences.items() if HEADLINE in block)
    yield from remarks + split_remark(scores)
    if listed:
        yield _won_and_lost(scores, [before, after], listed)


def _won_and_lost(scores: "list[pd.DataFrame]", revisions: list[str | None], system: str) -> str:
    """The questions that a system won and lost, or one remark where the answers of a run are not in DVC's cache."""
    import pandas as pd

    from medcards.answers.won_lost import won_and_lost
    from medcards.report.changes import changes_as_text

    try:
        kept = [file for revision in revisions for file in read_kept(revision, ANSWERS_FILE)]
        changes = won_and_lost(scores, [pd.read_json(file, lines=True, dtype=False) for file in kept], system)
    except InputError as error:
        return f"The questions that {system} won and lost are not listed: {error}."
    return "\n" + changes_as_text(system, changes, [revision or THIS for revision in revisions], terminal_width())


def over_seeds(given: argparse.Namespace) -> Iterator[str]:
    """The lines that compare runs over seeds."""
    from medcards.answers.runs import COMPARED_SCORES
    from medcards.answers.studies import compare_seeds, split_remark
    from medcards.report.render import difference_cells, markdown_table

    runs = [read_run(name) for name in given.runs]
    study = compare_seeds(runs)
    for group, systems in study.groups.items():
        seeds = sorted(set(study.points.seed[study.points.group == group]))
        yield f"{group}, seeds {', '.join(map(str, seeds))}: mean ± standard deviation (smallest to largest)\n"
        yield markdown_table(systems, COMPARED_SCORES, "system") + "\n"
    if study.differences:
        yield f"{study.compared}; p is corrected by Holm for all pairs of a score, the intervals are not\n"
        yield markdown_table(difference_cells(study.differences), COMPARED_SCORES, "difference") + "\n"
    yield from study.remarks + split_remark(run.scores for run in runs)
    if given.plot:
        from medcards.report.study_plots import plot_seeds

        plot_seeds(study.points, given.plot)
        yield f"drawn: {given.plot}"


def over_parameter(given: argparse.Namespace) -> Iterator[str]:
    """The lines that show a curve against a parameter."""
    from medcards.answers.comparison import HEADLINE
    from medcards.answers.studies import TUNED, TUNED_NLL, scaling_curve, split_remark
    from medcards.report.render import markdown_table

    runs = [read_run(name, with_likelihood=True) for name in given.runs]
    curve, remarks = scaling_curve(runs, given.curve)
    rows = {name: {given.curve: f"{of['parameter'].iloc[0]:g}"} for name, of in curve.groupby("run", sort=False)}
    for row in curve.to_dict("records"):
        rows[row["run"]][row["score"]] = row
    yield f"validation NLL of the tuned model, and {HEADLINE} of the tuned systems, with 95% intervals\n"
    yield markdown_table(rows, [given.curve, TUNED_NLL, *TUNED], "run") + "\n"
    yield from remarks + split_remark(run.scores for run in runs)
    if given.plot:
        from medcards.report.study_plots import plot_curve

        plot_curve(curve, given.curve, given.plot)
        yield f"drawn: {given.plot}"


def read_run(revision: str, with_likelihood: bool = False) -> "Run":
    """What DVC and git keep of a run, see :func:`read_kept`."""
    import pandas as pd

    from medcards.answers.studies import Run, flat_params

    paths = [PARAMS_FILE, SCORES_FILE, *([LIKELIHOOD_FILE] if with_likelihood else [])]
    params, *tables = read_kept(revision, *paths)
    return Run(revision, flat_params(params.read().decode(), revision), *map(pd.read_parquet, tables))


def read_kept(revision: str | None, *paths: str) -> list[BytesIO]:
    """Files of a run, as git and DVC keep them.

    Parameters
    ----------
    revision : commit, branch, tag or experiment; None is the working tree.

    Raises
    ------
    InputError : the revision does not exist, or DVC's cache does not hold one of its files.
    """
    from dvc.api import DVCFileSystem
    from dvc.exceptions import DvcException
    from dvc.scm import SCMError
    from dvc_data.index import DataIndexDirError

    name, found = revision or THIS, []
    try:
        kept = DVCFileSystem(rev=revision)
        for path in paths:
            found.append(BytesIO(kept.read_bytes(path)))
    except (SCMError, DvcException) as error:
        raise InputError(f"{name}: {reason_of(error)}; `dvc exp list -A` lists the experiments") from None
    except (FileNotFoundError, DataIndexDirError):
        raise InputError(f"{name}: {path} is not in DVC's cache; `dvc repro` there makes it") from None
    return found
