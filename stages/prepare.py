"""prepare: read the deck, clean it, group near-duplicates, and split the cards by group.

reads   the deck that data.source names
writes  data/cards/cards-NUMBER.parquet, data/cards/splits.parquet (the group and the split of every card),
        data/cards/manifest.json (the material and the number of cards)
        data/figures/prepare: metrics.json, cleaning.md (the first rows that cleaning changed or dropped, by reason)
"""

import pandas as pd

from medcards.base.files import atomic, write_json
from medcards.base.params import Seed
from medcards.base.workers import ComputeParams, compute_params
from medcards.deck.cards import clean, save_cards
from medcards.deck.description import cleaning_report, count_duplicates, group_sizes, split_contents
from medcards.deck.sources import DataParams, read_deck
from medcards.deck.splits import PrepareParams, group_cards, near_duplicates, sample_concepts, split_by_group
from stages import DATA, figures, load_params, run


def prepare(
    seed: int, data: DataParams, params: PrepareParams, compute: ComputeParams | None = None
) -> tuple[pd.DataFrame, dict, str]:
    """Make the cards of a deck.

    Parameters
    ----------
    compute : the cluster that looks for near-duplicates; None for this process.

    Returns
    -------
    cards : table of cards with their group and split.
    metrics : counts that describe the deck; ``metrics["material"]`` describes the material that was read.
    cleaning : the report on cleaning, as Markdown.
    """
    raw, material = read_deck(data)
    cards, counts, examples = clean(raw)
    if params.max_cards:
        cards = sample_concepts(cards, params.max_cards, seed)
    pairs = near_duplicates(cards, params.near_duplicate_threshold, seed, compute)
    cards["group"] = group_cards(cards, pairs, params.join_share)
    cards["split"] = split_by_group(cards, params.validation_share, params.test_share, seed)
    threshold = {"near_duplicate_threshold": params.near_duplicate_threshold}
    metrics = {
        "cards": len(cards),
        "material": material,
        "cleaning": counts,
        "duplicates": count_duplicates(cards, pairs) | threshold,
        "groups": group_sizes(cards),
        "splits": split_contents(cards),
    }
    return cards, metrics, cleaning_report(counts, examples)


def main() -> None:
    seed, data, params = load_params(seed=Seed, data=DataParams, prepare=PrepareParams)
    compute = compute_params()
    cards, metrics, cleaning = prepare(seed, data, params, compute)
    with atomic(DATA / "cards") as folder:
        save_cards(cards, folder, metrics["material"])
    with figures("prepare") as folder:
        write_json(folder / "metrics.json", metrics)
        (folder / "cleaning.md").write_text(cleaning, encoding="utf-8")


if __name__ == "__main__":
    run("prepare", main)
