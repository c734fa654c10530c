"""audit: measure leakage, by the similarity of each test card to its nearest training card.

Similarity is measured with the bi-encoder and with character n-grams, for questions and for answers, in the group split
and in a random split with the same test cards. The bi-encoder's is measured again in ten new splits of the groups.

reads   data/cards, data/vectors
writes  data/figures/audit: metrics.json, similarity.csv (share of test cards by similarity), closest.csv (the most
        similar pairs)
"""

import numpy as np
import pandas as pd

from medcards.base.files import write_csv, write_json
from medcards.base.params import Seed
from medcards.deck import cards as card_tables
from medcards.deck.leakage import (
    character_vectors,
    closest_pairs,
    leakage_metrics,
    leaked_shares,
    new_splits,
    similarity_curves,
    similarity_in_splits,
    similarity_to_training,
)
from medcards.search.vectors import Vectors
from stages import DATA, figures, load_params, run


def main() -> None:
    (seed,) = load_params(seed=Seed)
    cards = card_tables.load_cards(DATA / "cards")
    vectors, answers = Vectors.load(DATA / "vectors", cards), card_tables.corpus(cards)
    sides = {"questions": (cards, vectors.questions), "answers": (answers, vectors.answers)}
    splits = new_splits(cards, seed)
    similarities, shares, shares_again, closest = {}, {}, {}, []
    for name, (table, on_disk) in sides.items():
        encoded = np.asarray(on_disk)
        side = name.removesuffix("s")
        encoders = {"bi-encoder": encoded, "characters": character_vectors(table[side])}
        similarities[name], nearest = similarity_to_training(table, encoders, seed)
        shares[name] = leaked_shares(table, similarities[name], seed)
        again = similarity_in_splits(table, splits, {"bi-encoder": encoded}, seed)
        shares_again[name] = leaked_shares(table, again, seed)
        closest.append(closest_pairs(table, side, similarities[name]["bi-encoder", "group"], nearest))

    metrics = leakage_metrics(shares) | {"dealt_again": leakage_metrics(shares_again) | {"deals": len(splits)}}
    with figures("audit") as folder:
        write_json(folder / "metrics.json", metrics)
        write_csv(similarity_curves(similarities), folder / "similarity.csv")
        write_csv(pd.concat(closest), folder / "closest.csv")


if __name__ == "__main__":
    run("audit", main)
