"""audit: attack the split: is the nearest training card of a test card too near?

Under the bi-encoder and under character n-grams, for questions and for answers, against a split at random: the same
test cards, with as many training cards drawn from all others, so that the difference is paired. A test split of some
hundred cards holds few leaks, so the way of splitting is measured as well: the groups are dealt out anew ten times.

reads   data/cards, data/embeddings
writes  metrics/audit.json, plots/audit
"""

import logging

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt

from medcards import InputError
from medcards.base.files import atomic, write_json
from medcards.base.params import Seed
from medcards.base.stats import Bootstrap
from medcards.deck import cards as card_tables
from medcards.deck.leakage import THRESHOLDS, character_vectors, nearest_training, random_training
from medcards.deck.splits import split_by_group
from medcards.report.style import save
from medcards.search.encoder import Embeddings, before_adaptation
from stages import DATA, METRICS, PLOTS, load_params, run

log = logging.getLogger("medcards.audit")

CLOSEST = 20
DEALS = 10
GRID = np.linspace(0, 1, 101)


def attack(cards: pd.DataFrame, vectors: dict, seed: int) -> tuple[pd.DataFrame, pd.Series]:
    """Similarity of each test card to its nearest training card: one row a test card, columns (encoder, method).

    The second table holds the card id of the nearest training card of the split as it is, under the first encoder.
    """
    tested, training = np.flatnonzero(cards.split == "test"), (cards.split == "train").to_numpy()
    methods = {"group": training, "random": random_training(len(cards), training.sum(), seed)}
    found = {
        (encoder, method): nearest_training(matrix, tested, mask, f"{encoder}, {method}")
        for encoder, matrix in vectors.items()
        for method, mask in methods.items()
    }
    similarities = pd.DataFrame({key: similarity for key, (similarity, _) in found.items()}, index=tested)
    return similarities, cards.card_id.iloc[found[next(iter(vectors)), "group"][1]].set_axis(tested)


def deal_again(cards: pd.DataFrame, seed: int) -> list[pd.Series]:
    """The splits of :data:`DEALS` new deals of the groups, by card id; fewer where a small deck leaves one empty."""
    shares, splits = cards.split.value_counts(normalize=True), []
    for deal in range(1, DEALS + 1):
        try:
            split = split_by_group(cards, shares["validation"], shares["test"], seed + deal)
            splits.append(split.set_axis(cards.card_id))
        except InputError as error:
            log.warning("deal %d: %s", deal, error)
    if not splits:
        raise InputError(f"the deck is too small to deal its {cards.group.nunique()} groups out anew: add cards")
    return splits


def attack_all(cards: pd.DataFrame, deals: list[pd.Series], vectors: np.ndarray, seed: int) -> pd.DataFrame:
    """:func:`attack` on every deal, each against a draw of its own: one row for each test of a card."""
    found = []
    for number, split in enumerate(deals, start=1):
        dealt = cards.assign(split=cards.card_id.map(split))
        found.append(attack(dealt, {"bi-encoder": vectors}, seed + number)[0])
    return pd.concat(found)


def leaked(cards: pd.DataFrame, similarities: pd.DataFrame, seed: int) -> dict:
    """Leaked shares of both methods and their paired difference, by method, encoder and threshold."""
    shares: dict = {"group": {}, "random": {}, "group-random": {}}
    bootstrap = Bootstrap(cards.group[similarities.index.unique().sort_values()], seed)
    for encoder in similarities.columns.unique(level=0):
        for threshold in THRESHOLDS:
            over = (similarities[encoder] >= threshold).groupby(level=0).mean()  # of a card's tests
            values = {"group": over.group, "random": over.random, "group-random": over.group - over.random}
            for method, value in values.items():
                shares[method].setdefault(encoder, {})[f"leaked@{threshold}"] = bootstrap.interval(value)
    return shares


def plot_similarity(similarities: dict[str, pd.DataFrame], path) -> None:
    """For every similarity, the share of test cards whose nearest training card is at least so similar."""
    data = pd.DataFrame({"similarity": GRID})
    figure, axes = plt.subplots(2, 2, figsize=(10, 7), sharex=True, sharey=True)
    for row, (side, table) in zip(axes, similarities.items(), strict=True):
        for axis, encoder in zip(row, table.columns.levels[0], strict=True):
            for method, style in (("random", "--"), ("group", "-")):
                share = [(table[encoder, method] >= value).mean() for value in GRID]
                data[f"{side} {encoder} {method}"] = share
                axis.plot(GRID, share, style, label=f"{method} split")
            axis.set(title=f"{side}, {encoder}", xlim=(0.2, 1))
    for axis in axes[1]:
        axis.set_xlabel("cosine similarity")
    for axis in axes[:, 0]:
        axis.set_ylabel("share of test cards\nwith so near a training card")
    axes[0, 0].legend()
    save(figure, data, path)


def closest_pairs(cards: pd.DataFrame, side: str, similarity: pd.Series, nearest: pd.Series) -> pd.DataFrame:
    """The test cards that lie nearest to a training card, with it: leaks to read."""
    texts = cards.set_index("card_id")[side]
    pairs = pd.DataFrame({"side": side, "similarity": similarity, "test": cards[side][similarity.index]})
    pairs["nearest_training"] = texts[nearest].to_numpy()
    return pairs.sort_values("similarity", ascending=False, kind="stable").head(CLOSEST)


def add(metrics: dict, side: str, shares: dict) -> None:
    """Put leaked shares where they belong: ``group``, ``random`` and ``differences.group-random``, by side."""
    for method, found in shares.items():
        place = metrics.setdefault("differences", {}) if "-" in method else metrics
        place.setdefault(method, {})[side] = found


def main() -> None:
    (seed,) = load_params(seed=Seed)
    cards = card_tables.load(DATA / "cards")
    embeddings = Embeddings.load(before_adaptation(DATA / "embeddings"), cards)
    answers = card_tables.corpus(cards)
    sides = {
        "questions": (cards, {"bi-encoder": embeddings.questions, "characters": character_vectors(cards.question)}),
        "answers": (answers, {"bi-encoder": embeddings.answers, "characters": character_vectors(answers.answer)}),
    }
    deals = deal_again(cards, seed)
    metrics: dict = {"dealt_again": {"deals": len(deals)}}
    similarities, closest = {}, []
    for side, (table, vectors) in sides.items():
        similarities[side], nearest = attack(table, vectors, seed)
        add(metrics, side, leaked(table, similarities[side], seed))
        again = attack_all(table, deals, vectors["bi-encoder"], seed)
        add(metrics["dealt_again"], side, leaked(table, again, seed))
        closest.append(closest_pairs(table, side.removesuffix("s"), similarities[side]["bi-encoder", "group"], nearest))

    with atomic(PLOTS / "audit") as folder:
        plot_similarity(similarities, folder / "similarity.png")
        pd.concat(closest).to_csv(folder / "closest.csv", index=False, float_format="%.6g", lineterminator="\n")
    write_json(METRICS / "audit.json", metrics)


if __name__ == "__main__":
    run("audit", main)
