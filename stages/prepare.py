"""prepare: read the deck, clean it, split it by group.

reads   the deck that data.source names
writes  data/cards/{train,validation,test}.parquet, metrics/prepare.json
"""

import pandas as pd
from pydantic import Field, NonNegativeInt

from medcards import cards as card_tables
from medcards.cards import clean
from medcards.files import atomic, write_json
from medcards.params import Block, Seed
from medcards.sources import DataParams, read_deck
from medcards.splits import draw_groups, group_cards, split_by_group
from stages import DATA, METRICS, load_params, run


class PrepareParams(Block):
    """How many cards, and their shares, see params.yaml."""

    max_cards: NonNegativeInt
    validation_share: float = Field(gt=0, lt=0.5)
    test_share: float = Field(gt=0, lt=0.5)


def prepare(seed: int, data: DataParams, params: PrepareParams) -> tuple[pd.DataFrame, dict]:
    """The cards of the deck, each with its group and split, and the metrics that count what was done."""
    raw, material = read_deck(data)
    cards, cleaning = clean(raw)
    cards["group"] = group_cards(cards)
    if params.max_cards:
        cards = draw_groups(cards, params.max_cards, seed)
    cards["split"] = split_by_group(cards.group, params.validation_share, params.test_share, seed)
    sizes = cards.group.value_counts()
    metrics = {
        "cards": len(cards),
        "material": material,
        "cleaning": cleaning,
        "groups": {"count": len(sizes), "largest": int(sizes.max()), "with_several_cards": int((sizes > 1).sum())},
        "splits": {
            split: {"cards": len(rows), "groups": rows.group.nunique()} | rows.query_set.value_counts().to_dict()
            for split, rows in cards.groupby("split")
        },
    }
    return cards, metrics


def main() -> None:
    seed, data, params = load_params(seed=Seed, data=DataParams, prepare=PrepareParams)
    cards, metrics = prepare(seed, data, params)
    with atomic(DATA / "cards") as folder:
        card_tables.save(cards, folder)
    write_json(METRICS / "prepare.json", metrics)


if __name__ == "__main__":
    run("prepare", main)
