"""HNSW indexes and their recall: hnswlib's calls, one after another, against the stage index.

    python -m benchmarks.run index

Every way builds the indexes of the block index of params.yaml and measures the recall of every setting on validation
questions. The plain way builds with one thread, as the pipeline does, because hnswlib's default, all threads, gives
another file each time. Quality is the share of files with the same bytes, and the largest difference in recall.
"""

import itertools
import tempfile
from collections.abc import Iterator
from pathlib import Path

import hnswlib
import numpy as np
import pandas as pd

from benchmarks.material import Deck, blocks
from benchmarks.measure import Benchmark, Way
from medcards.base.files import sha256_of
from medcards.base.stats import Bootstrap
from medcards.search.exact import exact_search
from medcards.search.hnsw_index import HnswIndex
from medcards.search.index_grid import IndexParams, build_indexes, recall_grid
from medcards.search.vector_index import RECALL_DEPTH, recall_per_query

CARDS = 8000


def benchmarks(cards: int) -> Iterator[Benchmark]:
    seed, params = blocks(index=IndexParams)
    deck = Deck(seed)
    vectors, asked = deck.vectors.answers[:cards], deck.questions(cards // 10, "validation")
    queries, bootstrap = deck.vectors.questions_of(asked.card_id), Bootstrap(asked.group, seed)
    exact = exact_search(queries, vectors, RECALL_DEPTH)[1]

    def plain(threads: int) -> tuple[dict, pd.DataFrame]:
        indexes, rows = {}, []
        for m, ef_construction in itertools.product(params.m, params.ef_construction):
            index = indexes[m, ef_construction] = hnswlib.Index(space="ip", dim=vectors.shape[1])
            index.init_index(len(vectors), M=m, ef_construction=ef_construction, random_seed=seed)
            index.add_items(vectors, np.arange(len(vectors)), num_threads=threads)
            for ef_search in params.ef_search:
                index.set_ef(ef_search)
                found = 1 - index.knn_query(queries, k=RECALL_DEPTH, num_threads=threads)[1]
                rows.append((m, ef_construction, ef_search, recall_per_query(found, exact).mean()))
        return indexes, pd.DataFrame(rows, columns=["m", "ef_construction", "ef_search", "mean"])

    def ours(_: object) -> tuple[dict, pd.DataFrame]:
        indexes, _ = build_indexes(vectors, params, seed)
        return indexes, recall_grid(indexes, params.ef_search, queries, exact, bootstrap)

    def quality(one: tuple, other: tuple) -> dict[str, str]:
        files = [hashes(indexes) for indexes, _ in (one, other)]
        recalls = one[1].merge(other[1], on=["m", "ef_construction", "ef_search"])
        return {
            "equal files": f"{sum(files[0][key] == files[1][key] for key in files[0])} of {len(files[0])}",
            "largest difference in recall": f"{(recalls.mean_x - recalls.mean_y).abs().max():.4f}",
        }

    ways = {
        "hnswlib, one thread": Way(lambda _: plain(1)),
        "hnswlib, all threads": Way(lambda _: plain(-1)),
        "ours": Way(ours, ours=True),
    }
    builds = len(params.m) * len(params.ef_construction)
    yield Benchmark("index", f"{builds} indexes of {len(vectors):,} vectors", ways, quality)


def hashes(indexes: dict[tuple, hnswlib.Index | HnswIndex]) -> dict[tuple, str]:
    """The sha256 of the file of each index."""
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for key, index in indexes.items():
            if isinstance(index, HnswIndex):
                index.write(Path(folder))
            else:
                index.save_index(f"{folder}/index.bin")
            found[key] = sha256_of(f"{folder}/index.bin")
    return found
