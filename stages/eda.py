"""eda: a look at the deck: lengths, words, clusters, topics, a map.

reads   data/cards, data/embeddings
writes  data/eda/cards.parquet (cluster and topic of each searched card), metrics/eda.json, plots/eda
"""

from pathlib import Path
from typing import Annotated

import numpy as np
import pandas as pd
from pydantic import Field, PositiveFloat, PositiveInt

from medcards.base.files import atomic, write_json
from medcards.base.params import Block, Seed
from medcards.deck import cards as card_tables
from medcards.explore.clusters import RULE, agreement, central_cards, choose_k, kmeans_grid, tsne_map
from medcards.explore.topics import METHODS, choose_model, fit_grid, gain, name_classes, summarise
from medcards.explore.vocabulary import first_words, frequent_terms, heaps, length_statistics, words, zipf
from medcards.report import explore as figures
from medcards.search.encoder import Embeddings, before_adaptation
from stages import DATA, METRICS, PLOTS, load_params, run

SHOWN = 15  # terms, beginnings
NAME_WORDS, CENTRAL_CARDS = 3, 3


class EdaParams(Block):
    """Sizes of the exploration, see params.yaml."""

    clusters: list[Annotated[int, Field(ge=2)]] = Field(min_length=1)
    silhouette_sample: PositiveInt
    topics: list[Annotated[int, Field(ge=2)]] = Field(min_length=1)
    lda_passes: PositiveInt
    min_document_frequency: PositiveInt
    tsne_sample: PositiveInt
    perplexity: PositiveFloat


def look_at_words(cards: pd.DataFrame, embeddings: Embeddings, folder: Path) -> dict:
    """Lengths, vocabulary and ways of asking: pictures into ``folder``, figures returned."""
    tokens = {"questions": cards.question.map(words), "answers": cards.answer.map(words)}
    counts = {"questions": embeddings.question_tokens_of(cards.card_id), "answers": embeddings.answer_tokens}
    zipfs, heapss = ({name: law(texts) for name, texts in tokens.items()} for law in (zipf, heaps))
    lengths = [
        pd.DataFrame({"text": name, "unit": unit, "length": of[name]})
        for unit, of in (("words", {name: texts.map(len) for name, texts in tokens.items()}), ("model tokens", counts))
        for name in tokens
    ]
    figures.plot_lengths(pd.concat(lengths, ignore_index=True), folder / "lengths.png")
    figures.plot_vocabulary(zipfs, heapss, folder / "words.png")
    terms = {f"terms of {name}": (frequent_terms(texts, SHOWN), "term") for name, texts in tokens.items()}
    figures.plot_shares(terms, "share of the texts (%)", folder / "terms.png")
    begins = {"first two words of questions": (first_words(tokens["questions"], SHOWN), "begin")}
    figures.plot_shares(begins, "share of the questions (%)", folder / "first_words.png")
    exponents = {name: {"zipf_exponent": zipfs[name][1], "heaps_exponent": heapss[name][1]} for name in tokens}
    return {name: length_statistics(texts, counts[name]) | exponents[name] for name, texts in tokens.items()}


def look_at_clusters(cards: pd.DataFrame, vectors: np.ndarray, params: EdaParams, seed: int, folder: Path) -> tuple:
    """KMeans: a picture and a table into ``folder``; labels, names and figures returned."""
    labels, scores = kmeans_grid(vectors, cards.group, params.clusters, params.silhouette_sample, seed)
    k = choose_k(scores)
    figures.plot_clusters(scores, k, folder / "clusters.png")
    names = [" ".join(top) for top in name_classes(cards.answer, labels[k], params.min_document_frequency)]
    table = pd.DataFrame({"size": np.bincount(labels[k], minlength=len(names)), "terms": names}).rename_axis("cluster")
    for cluster, rows in central_cards(vectors, labels[k], CENTRAL_CARDS).items():
        table.loc[cluster, "central_questions"] = " | ".join(cards.question.iloc[rows])
    table.to_csv(folder / "cluster_names.csv", lineterminator="\n")
    return labels[k], names, {"k": k, "rule": RULE, "grid": scores}


def look_at_topics(cards: pd.DataFrame, vectors: np.ndarray, params: EdaParams, seed: int, folder: Path) -> tuple:
    """Topic models: pictures and tables into ``folder``; topic of each card by method, names and figures returned.

    Named and drawn are the topics of the best model that reads words alone: those of the vectors are clusters.
    """
    sizes = params.topics, params.lda_passes, params.min_document_frequency
    models, scores = fit_grid(cards.answer, vectors, *sizes, seed)
    best, number = choose_model(scores)
    means = scores.groupby(["method", "topics", "seed"], sort=False)[["c_v", "npmi", "diversity"]].mean()
    figures.plot_coherence(means.reset_index(), folder / "topic_models.png")
    coherence = means.c_v.groupby(["topics", "method"], sort=False).mean().unstack()[list(METHODS)]
    coherence.to_csv(folder / "coherence.csv", float_format="%.6g", lineterminator="\n")
    shown = choose_model(scores[scores.method != "embeddings"])
    model = models[*shown, 0]
    names = [" ".join(top) for top in model.top_words]
    table = scores.set_index(["method", "topics", "seed"]).loc[(*shown, 0), ["topic", "c_v", "npmi"]]
    table = table.assign(cards=np.bincount(model.of_text, minlength=len(names)), terms=names)
    table.to_csv(folder / "topics.csv", index=False, float_format="%.6g", lineterminator="\n")
    metrics = {
        "best": {"method": best, "topics": number},
        "shown": {"method": shown[0], "topics": shown[1]},
        "gain_c_v": {other: gain(scores, best, other, number) for other in METHODS if other != best},
        "grid": summarise(scores, seed),
    }
    return {method: models[method, number, 0].of_text for method in METHODS}, model.of_text, names, metrics


def main() -> None:
    seed, params = load_params(seed=Seed, eda=EdaParams)
    cards = card_tables.load(DATA / "cards")
    embeddings = Embeddings.load(before_adaptation(DATA / "embeddings"), cards)
    cards, vectors = card_tables.corpus(cards), embeddings.answers

    with atomic(PLOTS / "eda") as folder:
        folder.mkdir()
        metrics = look_at_words(cards, embeddings, folder)
        cluster, cluster_names, metrics["kmeans"] = look_at_clusters(cards, vectors, params, seed, folder)
        topics, topic, topic_names, metrics["topics"] = look_at_topics(cards, vectors, params, seed, folder)
        of_card = pd.DataFrame({"card_id": cards.card_id, "cluster": cluster, "topic": topic})
        if (cards.branch != "").any():  # the ontology's own classes
            metrics["agreement_with_branches"] = {
                name: agreement(labels, cards.branch, cards.group, seed)
                for name, labels in ({"kmeans": cluster} | topics).items()
            }
        drawn = np.sort(np.random.default_rng(seed).permutation(len(vectors))[: params.tsne_sample])
        points = of_card.iloc[drawn].reset_index(drop=True)
        points[["x", "y"]] = tsne_map(vectors[drawn], params.perplexity, seed).round(3)
        for by, names in (("cluster", cluster_names), ("topic", topic_names)):
            short = {number: " ".join(name.split()[:NAME_WORDS]) for number, name in enumerate(names)}
            figures.plot_map(points, by, short, folder / f"tsne_{by}.png")
    with atomic(DATA / "eda") as folder:
        folder.mkdir()
        of_card.to_parquet(folder / "cards.parquet", index=False)
    write_json(METRICS / "eda.json", metrics)


if __name__ == "__main__":
    run("eda", main)
