"""Is it better? The answers of two revisions or experiments, paired question by question.

    python -m medcards.commands.compare HEAD       # the working tree against the last commit
    python -m medcards.commands.compare r16 r32    # experiment r32 against r16; branches, tags and commits work too

It reads the scores that `dvc repro` kept at each of them, and shows the second's minus the first's with 95% intervals
(bootstrap over groups of near-duplicates), for every system whose answers differ.
"""

import argparse
import sys

import pandas as pd

from medcards import InputError
from medcards.answers.comparison import HEADLINE
from medcards.base.params import Seed, load
from medcards.base.stats import Bootstrap, holm
from medcards.report.tables import table

SCORES = "data/predictions/scores.parquet"
SHOWN = ("token_f1", "novel_f1", HEADLINE, "similarity", "nll")


def read_scores(revision: str | None) -> pd.DataFrame:
    """The scores of every answer at a revision, as the evaluate stage wrote them; None is the working tree.

    Raises
    ------
    InputError : there is no such revision, or no scores of it in DVC's cache.
    """
    from dvc.api import DVCFileSystem  # here, because --help and a wrong argument need not wait for it
    from dvc.exceptions import DvcException
    from dvc.scm import SCMError
    from dvc_data.index import DataIndexDirError

    name = revision or "the working tree"
    try:
        with DVCFileSystem(rev=revision).open(SCORES) as file:
            return pd.read_parquet(file)
    except (SCMError, DvcException) as error:
        raise InputError(f"{name}: {' '.join(str(error).split())}") from None
    except (FileNotFoundError, DataIndexDirError):
        raise InputError(f"{name}: {SCORES} is not in DVC's cache; `dvc repro` there makes it") from None


def compare(before: pd.DataFrame, after: pd.DataFrame, seed: int) -> tuple[dict[str, dict], list[str]]:
    """The paired differences after - before of every system whose answers differ.

    Parameters
    ----------
    before, after : rows with system, card_id, group and the scores.
    seed : of the bootstrap.

    Returns
    -------
    differences : ``{system: {score: interval with p, p_holm and detectable}}``; ``p_holm`` is corrected for all systems
        of a score.
    remarks : what a reader must know of questions, groups and systems that are not in both.

    Raises
    ------
    InputError : no question was asked in both.
    """
    groups = [of.drop_duplicates("card_id").set_index("card_id").group for of in (before, after)]
    shared = groups[1].index.intersection(groups[0].index)
    if shared.empty:
        raise InputError("no question was asked in both: their decks, splits or seeds differ, so nothing can be paired")
    remarks = []
    if not len(shared) == len(groups[0]) == len(groups[1]):
        remarks.append(f"Of {len(groups[0])} and {len(groups[1])} questions the {len(shared)} that are in both count.")
    if not groups[0][shared].equals(groups[1][shared]):
        remarks.append("The groups of near-duplicates differ, so their splits do; resampled are the second's.")
    old, new = (dict(list(of.set_index("card_id").groupby("system", sort=False))) for of in (before, after))
    if alone := sorted(old.keys() ^ new.keys()):
        remarks.append(f"Asked in one of them only: {', '.join(alone)}.")
    bootstrap, found, equal = Bootstrap(groups[1][shared], seed), {}, []
    for system in (name for name in new if name in old):
        gains = {name: new[system].loc[shared, name] - old[system].loc[shared, name] for name in SHOWN}
        if not any(values.any() for values in gains.values()):
            equal.append(system)
            continue
        found[system] = {name: bootstrap.difference(values) for name, values in gains.items() if values.notna().any()}
    for score in SHOWN:
        tested = {system: block[score]["p"] for system, block in found.items() if score in block}
        for system, p in holm(tested).items():
            found[system][score]["p_holm"] = p
    if equal:
        remarks.append(f"Equal in both: {', '.join(equal)}.")
    return found, remarks


def verdict(system: str, interval: dict) -> str:
    """What a difference in the headline score says, in a sentence.

    >>> interval = {"mean": 0.05, "lo": 0.01, "hi": 0.09, "n": 100, "p_holm": 0.02, "detectable": 0.06}
    >>> verdict("lora", interval)
    'lora is better in sound_f1, by 0.050 (n = 100).'
    >>> verdict("lora", interval | {"lo": -0.01})
    'lora: no difference in sound_f1 is shown (n = 100); a true one below 0.060 may go unseen.'
    >>> verdict("lora", interval | {"mean": 0.0, "lo": 0.0, "hi": 0.0})
    'lora: sound_f1 is the same (n = 100).'
    """
    if interval["lo"] == interval["mean"] == interval["hi"]:
        return f"{system}: {HEADLINE} is the same (n = {interval['n']})."
    if interval["lo"] <= 0 <= interval["hi"]:
        shown = f"a true one below {interval['detectable']:.3f} may go unseen"
        return f"{system}: no difference in {HEADLINE} is shown (n = {interval['n']}); {shown}."
    better = "better" if interval["mean"] > 0 else "worse"
    chance = "" if interval["p_holm"] < 0.05 else ", but of so many systems one may seem so by chance"
    return f"{system} is {better} in {HEADLINE}, by {abs(interval['mean']):.3f} (n = {interval['n']}){chance}."


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m medcards.commands.compare",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("before", help="commit, branch, tag or experiment")
    parser.add_argument("after", nargs="?", help="another one; the working tree if left out")
    given = parser.parse_args()
    try:
        (seed,) = load("params.yaml", seed=Seed)
        found, remarks = compare(read_scores(given.before), read_scores(given.after), seed)
    except InputError as error:
        sys.exit(f"compare: {error}")
    print(f"{given.after or 'the working tree'} minus {given.before}:\n")
    if found:
        print(table(found, list(SHOWN), "system"), "\n")
    for line in [*(verdict(system, block[HEADLINE]) for system, block in found.items() if HEADLINE in block), *remarks]:
        print(line)


if __name__ == "__main__":
    main()
