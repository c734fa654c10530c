"""index: build the HNSW index over the answers and measure what it misses.

reads   data/cards, data/embeddings
writes  data/index, metrics/index.json, plots/index
"""

import pandas as pd
from matplotlib import pyplot as plt

from medcards import cards as card_tables
from medcards.ann import HnswIndex, IndexParams, exact_search, recall_per_query
from medcards.encoder import Embeddings
from medcards.figures import interval_line, save
from medcards.files import atomic, write_json
from medcards.params import Seed
from medcards.stats import Bootstrap
from stages import DATA, METRICS, PLOTS, load_params, run

K = 10


def main() -> None:
    seed, params = load_params(seed=Seed, index=IndexParams)
    cards = card_tables.load(DATA / "cards")
    embeddings = Embeddings.load(DATA / "embeddings", cards)
    asked = cards[(cards.split == "validation") & (cards.query_set == "own")]
    queries = embeddings.questions_of(asked.card_id)
    exact, _ = exact_search(queries, embeddings.answers, K)
    bootstrap = Bootstrap(asked.group, seed)

    index = HnswIndex.build(embeddings.answers, params, seed)
    recall = {}
    for ef_search in sorted({*params.ef_search_grid, params.ef_search}):
        found, _ = index.search(queries, K, ef_search)
        recall[ef_search] = bootstrap.interval(recall_per_query(found, exact))

    with atomic(DATA / "index") as folder:
        index.save(folder)
        size = (folder / "index.bin").stat().st_size
    with atomic(PLOTS / "index") as folder:
        data = pd.DataFrame([{"ef_search": ef_search} | interval for ef_search, interval in recall.items()])
        figure, axes = plt.subplots(figsize=(6, 4))
        interval_line(axes, data.ef_search, data)
        axes.set(xlabel="ef_search", ylabel=f"recall@{K} against exact search", xscale="log")
        axes.set_xticks(data.ef_search, data.ef_search)
        save(figure, data, folder / "recall.png")
    write_json(
        METRICS / "index.json",
        {
            "grid": {ef_search: {f"recall@{K}": interval} for ef_search, interval in recall.items()},
            "served": index.settings | {f"recall@{K}": recall[params.ef_search], "bytes": size, "answers": len(index)},
        },
    )


if __name__ == "__main__":
    run("index", main)
