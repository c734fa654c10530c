"""index: build HNSW indexes over the answers, measure the recall of each, and keep the one that is served.

The served setting has the smallest ef_search, then m, then ef_construction, whose recall on the validation questions
reaches index.target_recall. The choice uses no clock.

reads   data/cards, data/vectors, data/encoder
writes  data/index
        data/figures/index: metrics.json, grid.csv (recall by setting), timed.csv (with speed), frontier.csv
"""

from medcards.base.files import atomic, write_csv, write_json
from medcards.base.params import Seed
from medcards.base.stats import Bootstrap
from medcards.deck import cards as card_tables
from medcards.search.exact import exact_search
from medcards.search.index_grid import (
    MEASURED_QUERIES,
    IndexParams,
    build_indexes,
    choose_setting,
    grid_metrics,
    index_recall,
    recall_grid,
    recall_metrics,
    served_speed,
    speed_frontier,
    time_settings,
)
from medcards.search.vector_index import RECALL_DEPTH
from medcards.search.vectors import search_vectors
from stages import DATA, figures, load_params, run


def main() -> dict:
    seed, params = load_params(seed=Seed, index=IndexParams)
    cards = card_tables.load_cards(DATA / "cards")
    vectors = search_vectors(DATA, cards)
    asked = {split: card_tables.sample(cards, split, MEASURED_QUERIES, seed, "own") for split in ("validation", "test")}
    queries = {split: vectors.questions_of(table.card_id) for split, table in asked.items()}
    # What :func:`index_recall` compares an index on: queries, similarities of their exact neighbours, and bootstrap.
    measured = {
        split: (
            queries[split],
            exact_search(queries[split], vectors.answers, RECALL_DEPTH)[1],
            Bootstrap(table.group, seed),
        )
        for split, table in asked.items()
    }

    indexes, builds = build_indexes(vectors.answers, params, seed)
    grid = recall_grid(indexes, params.ef_search, *measured["validation"])
    served = choose_setting(grid, params.target_recall)
    index = indexes[grid.m[served], grid.ef_construction[served]]
    index.ef_search = int(grid.ef_search[served])
    with atomic(DATA / "index") as folder:
        index.save(folder, vectors)

    timed, exact_speed = time_settings(indexes, grid, vectors.answers, queries["validation"])
    timed = timed.merge(builds, on=["m", "ef_construction"])
    test = recall_metrics(index_recall(index, index.ef_search, *measured["test"]))
    metrics = {
        "grid": grid_metrics(grid),
        "engine": params.engine,
        "served": index.settings
        | recall_metrics(grid.to_dict("records")[served])
        | {"test": test, "target_recall": params.target_recall, "bytes": index.bytes, "answers": len(index)},
    }
    with figures("index") as folder:
        write_json(folder / "metrics.json", metrics)
        write_csv(grid, folder / "grid.csv")
        write_csv(timed, folder / "timed.csv")
        write_csv(speed_frontier(timed), folder / "frontier.csv")
    return served_speed(timed, served, exact_speed)


if __name__ == "__main__":
    run("index", main)
