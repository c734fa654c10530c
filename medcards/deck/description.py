"""Counts that describe a deck after cleaning, grouping and splitting, and the report on cleaning."""

import json

import pandas as pd

from medcards.deck.words import normalise

SHOWN_CHARACTERS = 300
"""Length at which the report on cleaning cuts a text."""


def count_duplicates(cards: pd.DataFrame, pairs: pd.DataFrame) -> dict[str, int]:
    """Count the cards that repeat a question or an answer, and the pairs of near-duplicates; and what is kept apart.

    The counts of pairs are lower bounds, see :func:`medcards.deck.similar_sets.similar_sets`.

    Parameters
    ----------
    cards : table of cards with ``group`` and ``split``.
    pairs : the near-duplicates that :func:`medcards.deck.splits.near_duplicates` found.
    """
    repeated = {side: cards[side].map(normalise).duplicated(keep=False) for side in ("question", "answer")}
    answers = cards.answer.map(normalise)
    in_training = answers.isin(set(answers[cards.split == "train"]))
    across = {
        by: int((cards[by].to_numpy()[pairs["first"]] != cards[by].to_numpy()[pairs["second"]]).sum())
        for by in ("group", "split")
    }
    return {
        "cards_with_equal_question": int(repeated["question"].sum()),
        "cards_with_equal_answer": int(repeated["answer"].sum()),
        "cards_with_equal_answer_in_another_group": int((cards.group.groupby(answers).transform("nunique") > 1).sum()),
        "test_cards_with_equal_answer_in_training": int((in_training & (cards.split == "test")).sum()),
        "near_duplicate_pairs": len(pairs),
        "near_duplicate_pairs_across_groups": across["group"],
        "near_duplicate_pairs_across_splits": across["split"],
    }


def group_sizes(cards: pd.DataFrame) -> dict[str, float]:
    """Count the groups, and the cards of the largest group."""
    sizes = cards.group.value_counts()
    return {
        "count": len(sizes),
        "largest": int(sizes.max()),
        "largest_share": sizes.max() / len(cards),
        "with_several_cards": int((sizes > 1).sum()),
    }


def split_contents(cards: pd.DataFrame) -> dict[str, dict]:
    """Count the cards, groups and query sets of each split, with the quartiles of its answers' lengths."""
    return {split: _contents(rows) for split, rows in cards.groupby("split")}


def _contents(cards: pd.DataFrame) -> dict[str, object]:
    quartiles = cards.answer.str.len().quantile([0.25, 0.5, 0.75]).to_list()
    sizes = {"cards": len(cards), "groups": cards.group.nunique(), "answer_characters_quartiles": quartiles}
    return sizes | cards.query_set.value_counts().to_dict()


def cleaning_report(counts: dict[str, int], examples: pd.DataFrame) -> str:
    """The results of :func:`medcards.deck.cards.clean` as Markdown.

    Texts are written as JSON with ASCII characters only, so that invisible characters show as escapes.
    """
    lines = ["# Cleaning", ""] + [f"- {reason}: {count:,} rows" for reason, count in counts.items()]
    for reason, rows in examples.groupby("reason", sort=False):
        lines += ["", f"## {reason}, first {len(rows)} of {counts[reason]:,}", ""]
        texts = rows[["question", "answer"]].map(lambda text: json.dumps(text[:SHOWN_CHARACTERS], ensure_ascii=True))
        lines += [f"- row {row}: {q} / {a}" for row, q, a in zip(rows.row, texts.question, texts.answer, strict=True)]
    return "\n".join(lines) + "\n"
