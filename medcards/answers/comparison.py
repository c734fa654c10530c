"""What the scores of the answering systems say together: means, paired differences, memory, slices."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from medcards import InputError
from medcards.base.stats import Bootstrap, holm

HEADLINE = "sound_f1"
"""What systems are ranked by."""
NEAR = 0.9
"""Cosine similarity from which a training question is a near-copy, as in the audit of the split."""
BINS = 4
"""Of equally many questions, by how near the nearest training question is."""
SMALLEST_SLICE = 5
"""Groups of questions below which a slice is not shown: its interval would be drawn from too few."""
BLOCKS = ("differences", "far_from_training")
"""What stands beside the systems in a summary."""
KINDS = {
    "Knows nothing of the card": ("echo", "constant", "copy_nearest"),
    "Closed book: nothing retrieved": ("base", "lora"),
    "Training cards to read": ("base_rag", "lora_rag"),
    "The answer is in the deck: what retrieval gives, not what was learned": ("search_open", "lora_rag_open", "oracle"),
}
"""The systems by what they know, in the order of the tables."""
BASELINES, _CLOSED, _READING, OPEN = KINDS.values()
LEARNED = _CLOSED + _READING


def summarise(scores: dict[str, pd.DataFrame], bootstrap: Bootstrap) -> dict:
    """Mean and interval of every score of every system, ``{system: {score: interval}}``.

    A score that no answer of a system has, such as sides where no reference names one, is left out.
    """
    return {
        system: {name: bootstrap.interval(table[name]) for name in table if table[name].notna().any()}
        for system, table in scores.items()
    }


def systems_of(summary: dict) -> dict[str, dict]:
    """The systems of a summary in the order of :data:`KINDS`, what is new last, without what stands beside them."""
    known = [name for names in KINDS.values() for name in names if name in summary]
    return {name: summary[name] for name in [*known, *sorted(summary.keys() - {*known, *BLOCKS})]}


def best(summary: dict, names: Sequence[str]) -> str | None:
    """The one of the systems named that has the highest headline score; None if none of them was asked.

    Raises
    ------
    InputError : no question has the score.
    """
    asked = [name for name in names if name in summary]
    if any(HEADLINE not in summary[name] for name in asked):
        raise InputError(f"no reference says what its question does not, so there is no {HEADLINE}: ask more questions")
    return max(asked, key=lambda name: summary[name][HEADLINE]["mean"], default=None)


def pairs(summary: dict) -> list[tuple[str, str]]:
    """The pairs whose difference is a claim, as far as their systems were asked.

    What tuning changed, what reading changed, and what tuning, and the best that learned, give beyond knowing nothing.
    """
    claims = [("lora", "base"), ("base_rag", "base"), ("lora_rag", "lora")]
    claims += [(name, baseline) for name in ("lora", best(summary, LEARNED)) for baseline in BASELINES]
    return [pair for pair in dict.fromkeys(claims) if set(pair) <= set(summary)]


def differences(scores: dict[str, pd.DataFrame], bootstrap: Bootstrap, claims: list[tuple[str, str]]) -> dict:
    """The paired differences, ``{"a-b": {score: interval with p, p_holm and detectable}}``.

    ``p_holm`` is corrected for all pairs that are tested on one score.
    """
    found: dict[str, dict] = {f"{a}-{b}": {} for a, b in claims}
    for a, b in claims:
        for name in scores[a].columns.intersection(scores[b].columns):
            values = scores[a][name] - scores[b][name]
            if values.notna().any():
                found[f"{a}-{b}"][name] = bootstrap.difference(values)
    for name in {name for block in found.values() for name in block}:
        tested = {pair: block[name]["p"] for pair, block in found.items() if name in block}
        for pair, p in holm(tested).items():
            found[pair][name]["p_holm"] = p
    return found


def far_from_training(scores: dict[str, pd.DataFrame], similarity: np.ndarray, groups: object, seed: int) -> dict:
    """The summary of the questions alone whose nearest training question is no near-copy; empty if there are none."""
    far = similarity < NEAR
    if not far.any():
        return {}
    return summarise({name: table[far] for name, table in scores.items()}, Bootstrap(np.asarray(groups)[far], seed))


def by_similarity(scores: dict[str, pd.DataFrame], similarity: np.ndarray, groups: object, seed: int) -> pd.DataFrame:
    """Scores by how near the nearest training question is: bins of equally many questions.

    Returns one row a bin, system and score, with ``similarity`` (the bin's mean) and its interval.
    """
    order = np.argsort(similarity, kind="stable")
    rows = []
    for number, places in enumerate(np.array_split(order, min(BINS, len(order)))):
        bootstrap = Bootstrap(np.asarray(groups)[places], seed)
        for system, summary in summarise(
            {name: table.iloc[places] for name, table in scores.items()}, bootstrap
        ).items():
            place = {"bin": number, "similarity": float(similarity[places].mean()), "system": system}
            rows += [place | {"score": name} | interval for name, interval in summary.items()]
    return pd.DataFrame(rows)


def slices(asked: pd.DataFrame, scores: pd.DataFrame, seed: int) -> pd.DataFrame:
    """The headline score of parts of the questions: by how they begin, by the reference's length, by cluster.

    Parameters
    ----------
    asked : card_id, question, reference and, where known, cluster (its name).
    scores : card_id, group, system and the headline score, a row a question and system.

    Returns
    -------
    one row a part and system with its interval; parts whose questions lie in fewer than five groups are left out.
    """
    length = asked.reference.str.split().str.len()
    quartiles = pd.qcut(length.rank(method="first"), min(4, len(asked)), labels=False) + 1
    parts = pd.DataFrame(
        {
            "card_id": asked.card_id,
            "question begins": asked.question.str.lower().str.split().str[:2].str.join(" "),
            "reference length": "quartile " + quartiles.astype(str),
            "cluster": asked.cluster,
        }
    ).melt("card_id", var_name="by", value_name="slice")
    rows = []
    for (by, part, system), table in parts.merge(scores, on="card_id").groupby(["by", "slice", "system"], sort=True):
        if table.group[table[HEADLINE].notna()].nunique() >= SMALLEST_SLICE:
            interval = Bootstrap(table.group, seed).interval(table[HEADLINE])
            rows.append({"by": by, "slice": part, "system": system} | interval)
    return pd.DataFrame(rows, columns=["by", "slice", "system", "mean", "lo", "hi", "n"])
