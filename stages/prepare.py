"""prepare: read the deck, clean it, find what belongs together, split it by group.

reads   the deck that data.source names
writes  data/cards/{train,validation,test}.parquet, data/cleaning.md (the first rows that cleaning changed or dropped,
        by reason), metrics/prepare.json
"""

import json

import pandas as pd

from medcards.base.files import atomic, write_json
from medcards.base.params import Seed
from medcards.deck import cards as card_tables
from medcards.deck.cards import clean, normalise
from medcards.deck.sources import DataParams, read_deck
from medcards.deck.splits import PrepareParams, draw_concepts, group_cards, near_duplicates, split_by_group
from stages import DATA, METRICS, load_params, run


def prepare(seed: int, data: DataParams, params: PrepareParams) -> tuple[pd.DataFrame, str, dict]:
    """The cards of the deck, each with its group and split; what cleaning did, to read; the metrics."""
    raw, material = read_deck(data)
    cards, cleaning, examples = clean(raw)
    if params.max_cards:
        cards = draw_concepts(cards, params.max_cards, seed)
    pairs = near_duplicates(cards, params.near_duplicate_threshold, seed)
    cards["group"] = group_cards(cards, pairs, params.join_share, params.stop_share)
    cards["split"] = split_by_group(cards, params.validation_share, params.test_share, seed)
    metrics = {
        "cards": len(cards),
        "material": material | {"source": data.source},
        "cleaning": cleaning,
        "duplicates": duplicates(cards, pairs) | {"near_duplicate_threshold": params.near_duplicate_threshold},
        "groups": groups(cards),
        "splits": {split: contents(rows) for split, rows in cards.groupby("split")},
    }
    return cards, report(cleaning, examples), metrics


def duplicates(cards: pd.DataFrame, pairs: pd.DataFrame) -> dict[str, int]:
    """Cards that repeat another's question or answer, pairs of near-duplicates, and those that groups do not hold."""
    sides = {side: cards[side].map(normalise).duplicated(keep=False) for side in ("question", "answer")}
    apart = {
        by: int((cards[by].to_numpy()[pairs["first"]] != cards[by].to_numpy()[pairs["second"]]).sum())
        for by in ("group", "split")
    }
    return {
        "cards_with_equal_question": int(sides["question"].sum()),
        "cards_with_equal_answer": int(sides["answer"].sum()),
        "near_duplicate_pairs": len(pairs),
        "near_duplicate_pairs_across_groups": apart["group"],
        "near_duplicate_pairs_across_splits": apart["split"],
    }


def groups(cards: pd.DataFrame) -> dict[str, float]:
    """How many groups, and how large."""
    sizes = cards.group.value_counts()
    return {
        "count": len(sizes),
        "largest": int(sizes.max()),
        "largest_share": sizes.max() / len(cards),
        "with_several_cards": int((sizes > 1).sum()),
    }


def contents(cards: pd.DataFrame) -> dict[str, object]:
    """What a split holds."""
    quartiles = cards.answer.str.len().quantile([0.25, 0.5, 0.75]).to_list()
    sizes = {"cards": len(cards), "groups": cards.group.nunique(), "answer_characters_quartiles": quartiles}
    return sizes | cards.query_set.value_counts().to_dict()


def report(cleaning: dict[str, int], examples: pd.DataFrame) -> str:
    """What cleaning did, as Markdown; texts as JSON, so that what is invisible is seen."""
    lines = ["# Cleaning", ""] + [f"- {reason}: {count:,} rows" for reason, count in cleaning.items()]
    for reason, rows in examples.groupby("reason", sort=False):
        lines += ["", f"## {reason}, first {len(rows)} of {cleaning[reason]:,}", ""]
        texts = rows[["question", "answer"]].map(lambda text: json.dumps(text[:300], ensure_ascii=True))
        lines += [f"- row {row}: {q} / {a}" for row, q, a in zip(rows.row, texts.question, texts.answer, strict=True)]
    return "\n".join(lines) + "\n"


def main() -> None:
    seed, data, params = load_params(seed=Seed, data=DataParams, prepare=PrepareParams)
    cards, cleaning, metrics = prepare(seed, data, params)
    with atomic(DATA / "cards") as folder:
        card_tables.save(cards, folder)
    with atomic(DATA / "cleaning.md") as file:
        file.write_text(cleaning, encoding="utf-8")
    write_json(METRICS / "prepare.json", metrics)


if __name__ == "__main__":
    run("prepare", main)
