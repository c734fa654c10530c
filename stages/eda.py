"""eda: a look at the deck: lengths, vocabulary, clusters, topics, a map.

reads   data/cards, data/embeddings
writes  data/eda/cards.parquet (cluster and topic of each searched card), metrics/eda.json, plots/eda
"""

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib import pyplot as plt

from medcards import cards as card_tables
from medcards.encoder import Embeddings
from medcards.figures import save
from medcards.files import atomic, write_json
from medcards.params import Seed
from medcards.stats import Bootstrap
from medcards.topics import EdaParams, fit_lda, kmeans_grid, length_statistics, tsne_map, words
from stages import DATA, METRICS, PLOTS, load_params, run


def plot_lengths(cards: pd.DataFrame, path) -> None:
    """How many questions and answers have how many words."""
    lengths = pd.concat(
        pd.DataFrame({"text": name, "words": cards[name].map(words).map(len)}) for name in ("question", "answer")
    )
    counts = lengths.value_counts().rename("cards").reset_index().sort_values(["text", "words"])
    figure, axes = plt.subplots(figsize=(8, 4))
    sns.histplot(lengths, x="words", hue="text", binwidth=2, element="step", common_norm=False, ax=axes)
    axes.set(xlabel="length (words)", ylabel="cards", xlim=(0, lengths.words.quantile(0.995)))
    save(figure, counts, path)


def plot_silhouette(grid: dict[int, dict], path) -> None:
    """Mean silhouette of each number of clusters, with its interval."""
    data = pd.DataFrame([{"k": k} | interval for k, interval in grid.items()])
    figure, axes = plt.subplots(figsize=(6, 4))
    axes.errorbar(data.k, data["mean"], [data["mean"] - data.lo, data.hi - data["mean"]], marker="o", capsize=3)
    axes.set(xlabel="clusters k", ylabel="silhouette (cosine)", xticks=data.k)
    save(figure, data, path)


def plot_map(points: pd.DataFrame, path) -> None:
    """The t-SNE map coloured by cluster, each cluster's number at its median point."""
    figure, axes = plt.subplots(figsize=(8, 8))
    colours = sns.color_palette("husl", points.cluster.nunique())
    sns.scatterplot(points, x="x", y="y", hue="cluster", palette=colours, s=8, linewidth=0, legend=False, ax=axes)
    for cluster, (x, y) in points.groupby("cluster")[["x", "y"]].median().iterrows():
        axes.text(
            x, y, str(cluster), ha="center", va="center", weight="bold", bbox={"fc": "white", "alpha": 0.7, "pad": 1}
        )
    axes.set(xlabel="t-SNE 1", ylabel="t-SNE 2", title=f"{len(points)} answers, coloured by KMeans cluster")
    save(figure, points, path)


def main() -> None:
    seed, params = load_params(seed=Seed, eda=EdaParams)
    cards = card_tables.load(DATA / "cards")
    vectors = Embeddings.load(DATA / "embeddings", cards).answers
    cards = card_tables.corpus(cards)

    labels, silhouettes = kmeans_grid(vectors, params.clusters, params.silhouette_sample, seed)
    bootstrap = Bootstrap(cards.group.iloc[silhouettes.index], seed)
    grid = {k: bootstrap.interval(silhouettes[k]) for k in silhouettes}
    best = max(grid, key=lambda k: grid[k]["mean"])
    topic, top_words, coherence = fit_lda(cards.answer, params, seed)
    of_card = pd.DataFrame({"card_id": cards.card_id, "cluster": labels[best], "topic": topic})

    drawn = np.sort(np.random.default_rng(seed).permutation(len(vectors))[: params.tsne_sample])
    points = of_card.iloc[drawn].reset_index(drop=True)
    points[["x", "y"]] = tsne_map(vectors[drawn], params.perplexity, seed).round(3)
    metrics = {
        "questions": length_statistics(cards.question),
        "answers": length_statistics(cards.answer),
        "kmeans": {"k": best, "rule": "largest mean silhouette", "silhouette": grid},
        "lda": {
            "topics": params.topics,
            "coherence_cv": Bootstrap(range(len(coherence)), seed).interval(coherence),
            "top_words": {number: " ".join(found) for number, found in enumerate(top_words)},
        },
    }

    with atomic(PLOTS / "eda") as folder:
        plot_lengths(cards, folder / "lengths.png")
        plot_silhouette(grid, folder / "silhouette.png")
        plot_map(points, folder / "tsne.png")
        topics = pd.DataFrame({"coherence_cv": coherence, "top_words": map(" ".join, top_words)}).rename_axis("topic")
        topics.to_csv(folder / "topics.csv", float_format="%.6g", lineterminator="\n")
    with atomic(DATA / "eda") as folder:
        folder.mkdir()
        of_card.to_parquet(folder / "cards.parquet", index=False)
    write_json(METRICS / "eda.json", metrics)


if __name__ == "__main__":
    run("eda", main)
