"""index: build HNSW indexes over the answers, measure what each misses, and keep the one that is served.

Served is the setting with the smallest ef_search, then m, then ef_construction, whose recall on the validation
questions reaches index.target_recall; no clock has a say in it. What the clock says goes to the cost file and to
plots/cost.

reads   data/cards, data/embeddings
writes  data/index, metrics/index.json, plots/index, plots/cost/index
"""

import pandas as pd
from matplotlib import pyplot as plt
from tqdm import tqdm

from medcards.base.files import atomic, write_json
from medcards.base.params import Seed
from medcards.base.stats import Bootstrap
from medcards.deck import cards as card_tables
from medcards.report.style import interval_line, save, write_csv
from medcards.search.encoder import Embeddings
from medcards.search.index import K, exact_search
from medcards.search.index_grid import RECALL, IndexParams, build_all, choose, frontier, recall, time_all
from stages import DATA, METRICS, PLOTS, load_params, run


def draw(data: pd.DataFrame, x: str, y: str, served: pd.Series) -> tuple[plt.Figure, plt.Axes]:
    """A line for every (m, ef_construction), with intervals where y is the recall; the served setting is ringed."""
    figure, axes = plt.subplots(figsize=(6, 4))
    for (m, ef_construction), rows in data.groupby(["m", "ef_construction"]):
        label = f"m {m}, ef_construction {ef_construction}"
        if y == "mean":
            interval_line(axes, rows[x], rows, label=label)
        else:
            axes.plot(rows[x], rows[y], marker="o", label=label)
    axes.plot(data[x][served.name], data[y][served.name], "o", ms=14, mfc="none", mec="black", label="served")
    axes.legend(loc="upper left", bbox_to_anchor=(1, 1))
    return figure, axes


def main() -> dict:
    seed, params = load_params(seed=Seed, index=IndexParams)
    cards = card_tables.load(DATA / "cards")
    embeddings = Embeddings.load(DATA / "embeddings", cards)
    vectors = embeddings.answers
    asked = {split: cards[(cards.split == split) & (cards.query_set == "own")] for split in ("validation", "test")}
    queries = {split: embeddings.questions_of(table.card_id) for split, table in asked.items()}
    exact = {split: exact_search(vectors_, vectors, K)[0] for split, vectors_ in queries.items()}
    bootstrap = {split: Bootstrap(table.group, seed) for split, table in asked.items()}

    indexes, builds = build_all(vectors, params, seed)
    settings, recalls = [], []
    for ef_search in tqdm(sorted(set(params.ef_search)), desc="HNSW recall"):
        for (m, ef_construction), index in indexes.items():
            settings.append({"m": m, "ef_construction": ef_construction, "ef_search": ef_search})
            found = recall(index, ef_search, queries["validation"], exact["validation"], bootstrap["validation"])
            recalls.append(found)
    grid = pd.DataFrame([setting | found[RECALL] for setting, found in zip(settings, recalls, strict=True)])
    grid["p5"] = [found[f"{RECALL}_p5"] for found in recalls]
    served = choose(grid, params.target_recall)
    index = indexes[served.m, served.ef_construction]
    index.ef_search = int(served.ef_search)
    timed, exact_speed = time_all(indexes, grid, vectors, queries["validation"])
    timed = timed.merge(builds, on=["m", "ef_construction"])

    with atomic(DATA / "index") as folder:
        index.save(folder)
    with atomic(PLOTS / "index") as folder:
        figure, axes = draw(grid, "ef_search", "mean", served)
        axes.set(xlabel="ef_search", ylabel=f"{RECALL} against exact search", xscale="log")
        axes.set_xticks(grid.ef_search.unique(), grid.ef_search.unique())
        save(figure, grid, folder / "recall.png")
        same_build = (grid.m == served.m) & (grid.ef_construction == served.ef_construction)
        write_csv(grid[same_build], folder / "served.csv")
    with atomic(PLOTS / "cost" / "index") as folder:
        figure, axes = draw(timed, "mean", "queries_per_second", served)
        axes.axhline(exact_speed["queries_per_second"], color="gray", linestyle="--", label="exact search")
        axes.set(xlabel=f"{RECALL} against exact search", ylabel="queries/s, one thread", yscale="log")
        axes.legend(loc="upper left", bbox_to_anchor=(1, 1))
        save(figure, timed, folder / "settings.png")
        write_csv(frontier(timed), folder / "frontier.csv")

    names = [", ".join(f"{name} {value}" for name, value in setting.items()) for setting in settings]
    test = recall(index, index.ef_search, queries["test"], exact["test"], bootstrap["test"])
    of_served = index.settings | recalls[served.name] | {"test": test, "bytes": index.bytes, "answers": len(index)}
    write_json(METRICS / "index.json", {"grid": dict(zip(names, recalls, strict=True)), "served": of_served})
    speed = timed.loc[served.name, ["queries_per_second", "p50_ms", "p95_ms", "build_seconds"]].to_dict()
    ratios = {
        "hnsw_to_exact": speed["queries_per_second"] / exact_speed["queries_per_second"],
        "hnsw_to_exact_in_batch": speed["queries_per_second"] / exact_speed["queries_per_second_in_batch"],
    }
    return {"hnsw": speed, "exact": exact_speed, "ratios": ratios}


if __name__ == "__main__":
    run("index", main)
