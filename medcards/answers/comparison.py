"""Scores of the answering systems side by side: means, paired differences, similarity to training, slices."""

from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd

from medcards import InputError
from medcards.base.stats import Bootstrap, paired_differences

HEADLINE = "sound_f1"
"""The score that ranks the systems."""
NEAR = 0.9
"""Cosine similarity from which a training question counts as a near-copy, as in the audit of the split."""
BINS = 4
"""Number of bins of equally many questions, by similarity to the nearest training question."""
SMALLEST_SLICE = 5
"""A slice with fewer groups of questions is not shown, because its interval would rest on too few."""
BLOCKS = ("split", "differences", "far_from_training", "whole_sentences", "agreement")
"""Keys of a summary that are no systems."""
SYSTEM_KINDS = {
    "knows nothing of the card": ("echo", "constant", "copy_nearest"),
    "closed book": ("base", "base_fewshot", "lora"),
    "training cards as context": ("base_rag", "lora_rag"),
    "open book: the answer is in the deck": ("search_open", "base_rag_open", "lora_rag_open", "oracle"),
}
"""The systems by what they know, in the order of the tables. The last kind never counts as learning."""
BASELINES, _CLOSED, READING, OPEN = SYSTEM_KINDS.values()
LEARNED = _CLOSED + READING


def summarise_answers(scores: dict[str, pd.DataFrame], bootstrap: Bootstrap) -> dict:
    """Mean and interval of every score of every system, ``{system: {score: interval}}``.

    A score that no answer of a system has is left out, such as sides where no reference names one.
    """
    return {
        system: {name: bootstrap.interval(table[name]) for name in table if table[name].notna().any()}
        for system, table in scores.items()
    }


def answer_systems_of(summary: dict) -> dict[str, dict]:
    """The systems of a summary in the order of :data:`SYSTEM_KINDS`, other systems last."""
    known = [name for names in SYSTEM_KINDS.values() for name in names if name in summary]
    return {name: summary[name] for name in [*known, *sorted(summary.keys() - {*known, *BLOCKS})]}


def best_system(summary: dict, names: Sequence[str]) -> str | None:
    """The system with the highest headline score among ``names``; None if none of them was asked.

    Raises
    ------
    InputError : no question has the score.
    """
    asked = [name for name in names if name in summary]
    if any(HEADLINE not in summary[name] for name in asked):
        raise InputError(
            f"no reference has a word that its question lacks, so {HEADLINE} is undefined: ask more questions"
        )
    return max(asked, key=lambda name: summary[name][HEADLINE]["mean"], default=None)


def answer_pairs(asked: Iterable[str]) -> list[tuple[str, str]]:
    """The pairs of systems that are compared, among those that were asked.

    They compare tuned with base, with and without examples, and reading with not reading. They compare each learned
    system with each system that knows nothing of the card. No pair is picked by its scores.
    """
    pairs = [("lora", "base_fewshot"), ("lora", "base"), ("base_fewshot", "base"), ("base_rag", "base")]
    pairs += [("lora_rag", "lora"), *((name, baseline) for name in LEARNED for baseline in BASELINES)]
    return [pair for pair in pairs if set(pair) <= set(asked)]


def far_from_training(scores: dict[str, pd.DataFrame], similarity: np.ndarray, groups: object, seed: int) -> dict:
    """The summary over the questions without a near-copy in training; empty if there are none."""
    far = similarity < NEAR
    if not far.any():
        return {}
    return summarise_answers(
        {name: table[far] for name, table in scores.items()}, Bootstrap(np.asarray(groups)[far], seed)
    )


def summarise_bases(scores: dict[str, pd.DataFrame], sizes: dict[str, int], bootstrap: Bootstrap) -> dict:
    """The summary of the tuned model on several bases, with each base's bytes and its difference from the first base.

    Parameters
    ----------
    scores : by base, one row per question.
    sizes : bytes of each base's weights.
    """
    summary, (first, *others) = summarise_answers(scores, bootstrap), scores
    for base in scores:
        summary[base]["base_bytes"] = sizes[base]
    pairs = [(base, first) for base in others]
    summary["differences"] = paired_differences(scores, bootstrap, pairs)
    return summary


def by_similarity(scores: dict[str, pd.DataFrame], similarity: np.ndarray, groups: object, seed: int) -> pd.DataFrame:
    """Scores by similarity to the nearest training question, in :data:`BINS` bins of equally many questions.

    Returns
    -------
    one row per bin, system and score, with ``similarity`` (the bin's mean) and the score's interval.
    """
    order = np.argsort(similarity, kind="stable")
    rows = []
    for number, places in enumerate(np.array_split(order, min(BINS, len(order)))):
        bootstrap = Bootstrap(np.asarray(groups)[places], seed)
        for system, summary in summarise_answers(
            {name: table.iloc[places] for name, table in scores.items()}, bootstrap
        ).items():
            place = {"bin": number, "similarity": float(similarity[places].mean()), "system": system}
            rows += [place | {"score": name} | interval for name, interval in summary.items()]
    return pd.DataFrame(rows)


def slices(asked: pd.DataFrame, scores: pd.DataFrame, seed: int) -> pd.DataFrame:
    """The headline score of slices of the questions: by first words, by the reference's length, by cluster.

    Parameters
    ----------
    asked : card_id, question, reference and cluster (its name).
    scores : card_id, group, system and the headline score, one row per question and system.

    Returns
    -------
    one row per slice and system, with its interval. Slices with fewer than :data:`SMALLEST_SLICE` groups are left out.
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
