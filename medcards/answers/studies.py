"""Many runs compared: runs that differ in the seed, and runs that differ in one number."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import pandas as pd
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from medcards import InputError, reason_of
from medcards.answers.comparison import HEADLINE, answer_pairs
from medcards.answers.runs import COMPARED_SCORES, asked_split
from medcards.base.stats import Bootstrap, add_holm, spread, t_interval

TUNED = ("lora", "lora_rag")
"""The systems whose headline score a curve shows."""
TUNED_NLL = "validation NLL, tuned"
"""The tuned model's loss on the validation cards, as a curve names it."""


@dataclass
class Run:
    """What DVC keeps of one run.

    Parameters
    ----------
    name : commit, branch, tag or experiment.
    params : the parameters, see :func:`flat_params`.
    scores : one row per question and system, with system, group and the scores.
    likelihood : table of :func:`medcards.llm.training.validation_likelihood`. Only a curve needs it.
    """

    name: str
    params: dict[str, object]
    scores: pd.DataFrame
    likelihood: pd.DataFrame | None = None


@dataclass
class SeedStudy:
    """Scores over seeds, and differences with t intervals.

    Parameters
    ----------
    groups : ``{group: {system: {score: spread}}}``, see :func:`medcards.base.stats.spread`. A spread also has ``sd``,
        the standard deviation over the seeds.
    compared : says what is subtracted, and what the intervals are.
    differences : ``{pair or system: {score: difference}}``, see :func:`medcards.base.stats.t_interval`, and ``p_holm``.
    points : one row per run, system and score: group, run, seed, system, score, value.
    remarks : sentences about what the runs do not share.
    """

    groups: dict[str, dict[str, dict]]
    compared: str
    differences: dict[str, dict[str, dict]]
    points: pd.DataFrame
    remarks: list[str]


def flat_params(text: str, run: str) -> dict[str, object]:
    """The parameters of a params file by their full names.

    Parameters
    ----------
    text : the file. It is read as YAML 1.2.
    run : the name of the run, for errors.

    Raises
    ------
    InputError : the text is not valid YAML, or has no seed.

    Examples
    --------
    >>> flat_params("seed: 1\\nlora: {r: 16}", "HEAD")
    {'seed': 1, 'lora.r': 16}
    """
    try:
        params = dict(_flattened(YAML(typ="safe", pure=True).load(text) or {}))
    except (YAMLError, AttributeError) as error:
        raise InputError(f"{run}: params.yaml is not valid: {reason_of(error)}") from None
    if "seed" not in params:
        raise InputError(f"{run}: params.yaml has no seed")
    return params


def _flattened(block: dict, prefix: str = "") -> Iterator[tuple[str, object]]:
    for name, value in block.items():
        if isinstance(value, dict):
            yield from _flattened(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def differing_params(runs: list[Run]) -> list[str]:
    """The names of the parameters in which runs differ, the seed left out."""
    names = dict.fromkeys(name for run in runs for name in run.params if name != "seed")
    return [name for name in names if any(run.params.get(name) != runs[0].params.get(name) for run in runs)]


def group_by_params(runs: list[Run]) -> dict[str, list[Run]]:
    """Groups of runs that differ in the seed only, by the parameters in which the groups differ.

    Raises
    ------
    InputError : there are more than two groups, a group has one run only, or two runs have equal parameters and seeds.
    """
    names, groups = differing_params(runs), {}
    for run in runs:
        group = ", ".join(f"{name}={run.params.get(name, '(absent)')}" for name in names) or "all runs"
        groups.setdefault(group, {}).setdefault(run.params["seed"], []).append(run)
    for seed, same in ((seed, same) for by_seed in groups.values() for seed, same in by_seed.items() if len(same) > 1):
        equal = " and ".join(run.name for run in same)
        raise InputError(f"{equal} have the seed {seed} and equal parameters, so they are one run: name one of them")
    if len(groups) > 2:
        raise InputError(
            f"the runs have {len(groups)} sets of parameters: name runs of one or two ({'; '.join(groups)})"
        )
    for group, by_seed in groups.items():
        if len(by_seed) < 2:
            raise InputError(
                f"{group}: a spread needs runs with two seeds or more, and this is the seed {min(by_seed)}"
            )
    return {group: [run for (run,) in by_seed.values()] for group, by_seed in groups.items()}


def compare_seeds(runs: list[Run]) -> SeedStudy:
    """Compare runs that differ in the seed, or two groups of such runs.

    A run counts as one value per system and score, the mean over its questions. So the runs need not share a question.
    In one group the systems of a run are compared, see :func:`medcards.answers.comparison.answer_pairs`. Of two groups,
    the second minus the first is tested for each system: by a paired t test where both groups have two seeds or more in
    common, else by Welch's.

    Raises
    ------
    InputError : see :func:`group_by_params`; or no system is in all runs.
    """
    groups = group_by_params(runs)
    systems, remarks = shared_systems(runs)
    points = seed_points(groups, systems)
    values = points.pivot(index=["group", "seed"], columns=["system", "score"], values="value").dropna(axis=1)
    of_group = {group: values.loc[group] for group in groups}
    summary = {
        group: {
            system: {score: spread(column) | {"sd": float(column.std())} for score, column in table[system].items()}
            for system in systems
        }
        for group, table in of_group.items()
    }
    if len(groups) == 1:
        (table,) = of_group.values()
        compared, differences = _within(table)
    else:
        compared, differences, left_out = _between(of_group, systems)
        remarks += left_out
    return SeedStudy(summary, compared, differences, points, remarks)


def shared_systems(runs: list[Run]) -> tuple[list[str], list[str]]:
    """The systems that are in all runs, and a remark about the others.

    Raises
    ------
    InputError : no system is in all runs.
    """
    asked = list(dict.fromkeys(system for run in runs for system in run.scores.system))
    everywhere = [system for system in asked if all(system in set(run.scores.system) for run in runs)]
    if not everywhere:
        raise InputError("no answering system is in all runs: their answer.systems differ")
    others = [system for system in asked if system not in everywhere]
    return everywhere, [f"Not all runs asked: {', '.join(others)}."] if others else []


def seed_points(groups: dict[str, list[Run]], systems: list[str]) -> pd.DataFrame:
    """The mean of each score over the questions of each run, see :class:`SeedStudy`."""
    rows = [
        {"group": group, "run": run.name, "seed": run.params["seed"], "system": system, "score": score, "value": value}
        for group, of_group in groups.items()
        for run in of_group
        for system, means in run.scores.groupby("system")[list(COMPARED_SCORES)].mean().loc[systems].iterrows()
        for score, value in means.items()
    ]
    return pd.DataFrame(rows).dropna(ignore_index=True)


def _within(values: pd.DataFrame) -> tuple[str, dict]:
    """Differences between the systems of a run.

    Parameters
    ----------
    values : one row per seed, one column per system and score.
    """
    tested = {
        f"{a}-{b}": {score: t_interval(values[a][score] - values[b][score]) for score in _both(values[a], values[b])}
        for a, b in answer_pairs(values.columns.unique("system"))
    }
    add_holm(tested)
    compared = f"Differences within a run: 95% t interval over {len(values)} seeds"
    return compared, tested


def _between(groups: dict[str, pd.DataFrame], systems: list[str]) -> tuple[str, dict, list[str]]:
    """Differences of each system between two groups; tables as in :func:`_within`."""
    (first, before), (second, after) = groups.items()
    seeds, remarks = before.index.intersection(after.index), []
    if paired := len(seeds) >= 2:
        if alone := sorted(before.index.symmetric_difference(after.index)):
            remarks.append(
                f"Only one group has the seeds {', '.join(map(str, alone))}; the differences leave them out."
            )
        before, after = before.loc[seeds], after.loc[seeds]
    tested, equal = {}, []
    for system in systems:
        one, other = after[system], before[system]
        if paired and one.equals(other):
            equal.append(system)
            continue
        tested[system] = {
            score: t_interval(one[score] - other[score]) if paired else t_interval(one[score], other[score])
            for score in _both(one, other)
        }
    add_holm(tested)
    if equal:
        remarks.append(f"The scores are equal for: {', '.join(equal)}.")
    test = (
        f"95% paired t interval over {len(seeds)} seeds"
        if paired
        else (f"Welch's 95% t interval over {len(after)} and {len(before)} seeds")
    )
    return f"{second} minus {first}: {test}", tested, remarks


def _both(one: pd.DataFrame, other: pd.DataFrame) -> Iterable[str]:
    """The scores that two systems have, in the order of :data:`medcards.answers.runs.COMPARED_SCORES`."""
    return [score for score in COMPARED_SCORES if score in one and score in other]


def scaling_curve(runs: list[Run], parameter: str) -> tuple[pd.DataFrame, list[str]]:
    """The tuned model's validation loss and the tuned systems' headline score against one parameter.

    Parameters
    ----------
    runs : runs that differ in the parameter, with their likelihood.
    parameter : its full name, such as ``rows.train_cards``.

    Returns
    -------
    curve : one row per run and score, by rising value: ``parameter`` (its value), ``run``, ``score`` (:data:`TUNED_NLL`
        or a system of :data:`TUNED`), and the interval, a bootstrap over groups with the run's seed.
    remarks : a sentence about other parameters in which the runs differ.

    Raises
    ------
    InputError : a run has no such parameter, or its value is not a number; or all runs have one value.
    """
    for run in runs:
        value = run.params.get(parameter)
        if parameter not in run.params:
            raise InputError(f"{run.name} has no parameter {parameter}: write its full name, as in rows.train_cards")
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise InputError(f"{run.name}: {parameter} is {value!r} in its params.yaml, and a curve needs a number")
    if len({run.params[parameter] for run in runs}) < 2:
        raise InputError(f"all runs have {parameter}={runs[0].params[parameter]}: name runs that differ in it")
    rows = []
    for run in sorted(runs, key=lambda run: run.params[parameter]):
        place = {"parameter": run.params[parameter], "run": run.name}
        rows += [place | {"score": score} | interval for score, interval in _tuned_scores(run).items()]
    others = [name for name in differing_params(runs) if name != parameter]
    others += ["seed"] if len({run.params["seed"] for run in runs}) > 1 else []
    remarks = [f"The runs also differ in: {', '.join(others)}."] if others else []
    return pd.DataFrame(rows), remarks


def _tuned_scores(run: Run) -> dict[str, dict]:
    """The intervals of a run that a curve shows, by the name of the score."""
    seed, found = run.params["seed"], {}
    found[TUNED_NLL] = Bootstrap(run.likelihood.group, seed).interval(run.likelihood.tuned)
    for system in TUNED:
        rows = run.scores[run.scores.system == system]
        if rows[HEADLINE].notna().any():
            found[system] = Bootstrap(rows.group, seed).interval(rows[HEADLINE])
    return found


def split_remark(scores: Iterable[pd.DataFrame]) -> list[str]:
    """A remark where scores are of test questions.

    Raises
    ------
    InputError : some runs answer test questions, and others validation questions.
    """
    splits = {asked_split(table) for table in scores}
    if len(splits) > 1:
        raise InputError("some runs answer test questions and others validation questions: compare runs of one split")
    if "test" in splits:
        return ["These are test questions: choose nothing by them; answer.split=validation is for choosing."]
    return []
