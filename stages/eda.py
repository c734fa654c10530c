"""eda: describe the deck by its lengths, words, clusters, topics, and a map.

reads   data/cards, data/vectors
writes  data/figures/eda: metrics.json, lengths.csv, words.csv, terms.csv, first_words.csv, cluster_names.csv,
        topic_models.csv, coherence.csv, topics.csv, map.csv, cards.parquet (cluster and topic of each searched card)
"""

import numpy as np
import pandas as pd

from medcards.base.files import write_csv, write_json
from medcards.base.params import Seed
from medcards.deck import cards as card_tables
from medcards.explore.clusters import describe_clusters
from medcards.explore.overview import EdaParams, map_and_agreement
from medcards.explore.topics import describe_topics, fit_topic_models, no_topics, score_coherence, topic_texts
from medcards.explore.vocabulary import describe_words
from medcards.search.vectors import Vectors
from stages import DATA, figures, load_params, run


def main() -> None:
    seed, params = load_params(seed=Seed, eda=EdaParams)
    cards = card_tables.load_cards(DATA / "cards")
    vectors = Vectors.load(DATA / "vectors", cards)
    cards, of_answers = card_tables.corpus(cards), np.asarray(vectors.answers)

    metrics, tables = describe_words(cards, vectors.question_tokens_of(cards.card_id), vectors.answer_tokens)
    bags, counted = topic_texts(cards, params.min_document_frequency)
    clusters, metrics["kmeans"], tables["cluster_names"] = describe_clusters(
        cards, of_answers, bags["embeddings"], params.clusters, seed
    )
    described = no_topics(bags, len(cards))
    if described is None:
        models = fit_topic_models(bags, of_answers, params.topics, params.seeds, seed, clusters)
        described = describe_topics(models, score_coherence(models, counted), bags)
    topics, topic, metrics["topics"], topic_tables = described

    labelled = pd.DataFrame({"card_id": cards.card_id, "cluster": clusters[metrics["kmeans"]["k"]], "topic": topic})
    labels = {"kmeans": labelled.cluster.to_numpy()} | topics
    points, agreements = map_and_agreement(cards, of_answers, labels, params.tsne_sample, seed)
    tables["map"] = labelled.merge(points, on="card_id")
    if agreements:
        metrics["agreement_with_branches"] = agreements

    with figures("eda") as folder:
        write_json(folder / "metrics.json", metrics)
        for name, table in (tables | topic_tables).items():
            write_csv(table, folder / f"{name}.csv")
        labelled.to_parquet(folder / "cards.parquet", index=False)


if __name__ == "__main__":
    run("eda", main)
