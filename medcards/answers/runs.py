"""Two runs compared by their answers, paired question by question."""

import pandas as pd

from medcards import InputError
from medcards.answers.comparison import HEADLINE
from medcards.base.stats import Bootstrap

DIGITS = 5
"""Digits after the point in which two scores are equal."""
COMPARED_SCORES = ("token_f1", "novel_f1", HEADLINE, "similarity", "nll")


def compare_runs(before: pd.DataFrame, after: pd.DataFrame, seed: int) -> tuple[dict[str, dict], list[str]]:
    """The paired differences after - before of every system whose answers differ.

    Parameters
    ----------
    before, after : one row per question and system, with system, card_id, group and the scores.
    seed : of the bootstrap.

    Returns
    -------
    differences : by system, see :meth:`medcards.base.stats.Bootstrap.differences`. p is corrected for all systems of
        a score.
    remarks : sentences about the questions, groups and systems that the runs do not share.

    Raises
    ------
    InputError : the runs share no question.
    """
    groups = [run.drop_duplicates("card_id").set_index("card_id").group for run in (before, after)]
    shared = groups[1].index.intersection(groups[0].index)
    splits = [asked_split(run) for run in (before, after)]
    if splits[0] != splits[1]:
        raise InputError(
            f"the first run answers {splits[0]} questions and the second {splits[1]} questions (answer.split): "
            "compare runs of one split"
        )
    if shared.empty:
        raise InputError("the runs share no question, so nothing can be paired: their decks, splits or seeds differ")
    remarks = []
    if not len(shared) == len(groups[0]) == len(groups[1]):
        remarks.append(f"The runs asked {len(groups[0])} and {len(groups[1])} questions; they share {len(shared)}.")
    if not groups[0][shared].equals(groups[1][shared]):
        remarks.append("The groups of near-duplicates differ; the intervals use those of the second run.")
    old, new = (dict(list(run.set_index("card_id").groupby("system", sort=False))) for run in (before, after))
    if alone := sorted(old.keys() ^ new.keys()):
        remarks.append(f"Only one run asked: {', '.join(alone)}.")
    scores = list(COMPARED_SCORES)
    gains = {  # the last digits of a similarity depend on the other texts of its batch
        name: (new[name].loc[shared, scores] - old[name].loc[shared, scores]).round(DIGITS)
        for name in new
        if name in old
    }
    equal = [name for name, table in gains.items() if not table.any(axis=None)]
    changed = {name: table for name, table in gains.items() if name not in equal}
    differences = Bootstrap(groups[1][shared], seed).differences(changed)
    if equal:
        remarks.append(f"The scores are equal for: {', '.join(equal)}.")
    return differences, remarks


def asked_split(scores: pd.DataFrame) -> str:
    """The split whose questions were asked. Before scores had the column ``split``, all were of test questions."""
    return scores.split.iloc[0] if "split" in scores else "test"


def verdict(system: str, interval: dict) -> str:
    """A difference in the headline score, as a sentence.

    >>> interval = {"mean": 0.05, "lo": 0.01, "hi": 0.09, "n": 100, "p_holm": 0.02, "detectable": 0.06}
    >>> verdict("lora", interval)
    'lora is better in sound_f1, by 0.050 (n = 100).'
    >>> verdict("lora", interval | {"p_holm": 0.2})
    'lora is better in sound_f1, by 0.050 (n = 100), but not after correction for several systems.'
    >>> verdict("lora", interval | {"lo": -0.01})
    'lora: no difference in sound_f1 is shown (n = 100); a true difference below 0.060 may be missed.'
    >>> verdict("lora", interval | {"mean": 0.0, "lo": 0.0, "hi": 0.0})
    'lora: sound_f1 is the same (n = 100).'
    """
    if interval["lo"] == interval["mean"] == interval["hi"]:
        return f"{system}: {HEADLINE} is the same (n = {interval['n']})."
    if interval["lo"] <= 0 <= interval["hi"]:
        missed = f"a true difference below {interval['detectable']:.3f} may be missed"
        return f"{system}: no difference in {HEADLINE} is shown (n = {interval['n']}); {missed}."
    direction = "better" if interval["mean"] > 0 else "worse"
    chance = "" if interval["p_holm"] < 0.05 else ", but not after correction for several systems"
    return f"{system} is {direction} in {HEADLINE}, by {abs(interval['mean']):.3f} (n = {interval['n']}){chance}."
