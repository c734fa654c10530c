"""audit: attack the split: is the nearest training card of a test card too near?

Under the bi-encoder and under character n-grams, for questions and for answers, against a split at random: the same
test cards, with as many training cards drawn from all others, so that the difference is paired.

reads   data/cards, data/embeddings
writes  metrics/audit.json, plots/audit
"""

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt

from medcards import cards as card_tables
from medcards.encoder import Embeddings
from medcards.figures import save
from medcards.files import atomic, write_json
from medcards.leakage import THRESHOLDS, character_vectors, nearest_training, random_training
from medcards.params import Seed
from medcards.stats import Bootstrap
from stages import DATA, METRICS, PLOTS, load_params, run

CLOSEST = 20
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


def leaked(similarities: pd.DataFrame, bootstrap: Bootstrap) -> dict:
    """Leaked shares of both methods and their paired difference, by encoder and threshold."""
    shares: dict = {"group": {}, "random": {}, "group-random": {}}
    for encoder in similarities.columns.levels[0]:
        for threshold in THRESHOLDS:
            over = similarities[encoder] >= threshold
            values = {"group": over.group, "random": over.random, "group-random": over.group * 1.0 - over.random}
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


def main() -> None:
    (seed,) = load_params(seed=Seed)
    cards = card_tables.load(DATA / "cards")
    embeddings = Embeddings.load(DATA / "embeddings", cards)
    answers = card_tables.corpus(cards)
    sides = {
        "questions": (cards, {"bi-encoder": embeddings.questions, "characters": character_vectors(cards.question)}),
        "answers": (answers, {"bi-encoder": embeddings.answers, "characters": character_vectors(answers.answer)}),
    }
    metrics: dict = {}
    similarities, closest = {}, []
    for side, (table, vectors) in sides.items():
        similarities[side], nearest = attack(table, vectors, seed)
        tested = table.loc[similarities[side].index]
        for method, shares in leaked(similarities[side], Bootstrap(tested.group, seed)).items():
            metrics.setdefault(method, {})[side] = shares
        text = side.removesuffix("s")
        texts = table.set_index("card_id")[text]
        pairs = pd.DataFrame({"side": side, "similarity": similarities[side]["bi-encoder", "group"]})
        pairs = pairs.assign(test=tested[text], nearest_training=texts[nearest].to_numpy())
        closest.append(pairs.sort_values("similarity", ascending=False, kind="stable").head(CLOSEST))
    metrics["differences"] = {"group-random": metrics.pop("group-random")}

    with atomic(PLOTS / "audit") as folder:
        plot_similarity(similarities, folder / "similarity.png")
        pd.concat(closest).to_csv(folder / "closest.csv", index=False, float_format="%.6g", lineterminator="\n")
    write_json(METRICS / "audit.json", metrics)


if __name__ == "__main__":
    run("audit", main)
