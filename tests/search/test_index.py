"""Exact search, the HNSW index, and the choice of its setting."""

import os
import platform
import shutil
import sys

import numpy as np
import pandas as pd
import pytest
from conftest import needs
from search_material import random_units

from medcards import InputError
from medcards.base.files import read_json, sha256_of, write_json
from medcards.base.stats import Bootstrap
from medcards.search import lance_index
from medcards.search.exact import QUERY_BLOCK, exact_search, nearest, similarities
from medcards.search.hnsw_index import HnswIndex
from medcards.search.index import ENGINES, load_index
from medcards.search.index_grid import (
    IndexParams,
    build_indexes,
    choose_setting,
    grid_metrics,
    measure_speed,
    recall_grid,
    served_speed,
    speed_frontier,
)
from medcards.search.latency import measure_latency
from medcards.search.vector_index import RECALL_DEPTH, VectorIndex, recall_per_query
from medcards.search.vectors import Vectors


@pytest.fixture(scope="module")
def vectors() -> np.ndarray:
    return random_units(300, 16)


def as_deck(answers: np.ndarray) -> Vectors:
    """Vectors of a deck with these answers."""
    ids, tokens = np.arange(len(answers)).astype(str), np.ones(len(answers))
    return Vectors(ids, answers, tokens, ids, answers, tokens, max_tokens=8)


@pytest.fixture(params=["hnswlib", pytest.param("lancedb", marks=needs("lancedb"))])
def engine(request, tmp_path, monkeypatch) -> type[VectorIndex]:
    """Each engine, which builds in the test's own folder."""
    monkeypatch.setenv("MEDCARDS_SCRATCH", str(tmp_path / "scratch"))
    return ENGINES[request.param]


def build(engine: type[VectorIndex], vectors: np.ndarray) -> VectorIndex:
    return engine.build(vectors, m=8, ef_construction=50, seed=1)


def test_exact_search():
    corpus = np.array([[1, 0], [0, 1], [0.6, 0.8], [1, 0]], dtype=np.float32)
    rows, scores = exact_search(np.array([[1, 0]], dtype=np.float32), corpus, k=3)
    assert rows.tolist() == [[0, 3, 2]]  # equal scores in the order of the rows
    assert scores[0].tolist() == pytest.approx([1, 1, 0.6])
    assert exact_search(corpus[:1], corpus, k=1)[0].tolist() == [[0]]  # a tie at the cut
    assert exact_search(corpus, corpus, k=99)[0].shape == (4, 4)


def test_exact_search_does_not_find_hidden_rows():
    """The similarities to the first query are 0.8, 1, 0.6 and 0. Where all rows are hidden, nothing is found."""
    rows = np.array([[0.8, 0.6], [1, 0], [0.6, 0.8], [0, 1]], dtype=np.float32)
    asked = np.array([[1, 0], [1, 0], [0, 1], [1, 0]], dtype=np.float32)
    found, similarity = exact_search(asked, rows, 3, [{1}, {0, 1, 2, 3}, {0, 1}, set()])
    assert found.tolist() == [[0, 2, 3], [-1, -1, -1], [3, 2, -1], [1, 0, 2]]
    nothing = [np.nan] * 3
    expected = np.array([[0.8, 0.6, 0], nothing, [1, 0.8, np.nan], [1, 0.8, 0.6]])
    assert similarity == pytest.approx(expected, nan_ok=True)


def test_exact_search_hides_the_rows_of_each_query_in_every_block(vectors):
    """There are more queries than a block has. Each one hides itself."""
    queries = np.vstack([vectors, vectors])[: QUERY_BLOCK + 40]
    hidden = [{place % len(vectors)} for place in range(len(queries))]
    found, _ = exact_search(queries, vectors, 5, hidden)
    similarity = queries @ vectors.T
    similarity[np.arange(len(queries)), [row for rows in hidden for row in rows]] = -2
    assert found.tolist() == np.argsort(-similarity, axis=1, kind="stable")[:, :5].tolist()


def test_exact_search_in_blocks_of_rows(vectors, monkeypatch):
    """Each query hides its best row. Blocks of 7 rows find what one block of 300 rows finds."""
    hidden = [{place} for place in range(len(vectors))]
    rows, scores = exact_search(vectors, vectors, 10, hidden)
    whole = similarities(vectors, vectors)
    monkeypatch.setattr("medcards.search.exact.ROW_BLOCK", 7)
    found = exact_search(vectors, vectors, 10, hidden)
    assert found[1] == pytest.approx(scores, abs=1e-6) and (found[0] == rows).mean() > 0.99
    assert similarities(vectors, vectors) == pytest.approx(whole, abs=1e-6)
    assert exact_search(vectors[:2], vectors[:9], 20)[0].shape == (2, 9)


def test_the_nearest_rows_leave_the_scores_as_they_are():
    scores = np.array([[1.0, 3.0, 2.0]])
    assert nearest(scores, 2, [{1}])[0].tolist() == [[2, 0]] and scores.tolist() == [[1, 3, 2]]


def test_recall_per_query():
    exact = np.array([[0.9, 0.8], [0.9, 0.8]])
    assert recall_per_query(np.array([[0.9, 0.8], [0.9, 0.7]]), exact).tolist() == [1.0, 0.5]


def test_any_of_several_equally_near_answers_counts_for_recall(engine):
    """Of 60 answers, 20 and 20 and 20 are equal. No setting can know which of them exact search names."""
    vectors = np.repeat(np.eye(3, dtype=np.float32), 20, axis=0)
    _, similarities = build(engine, vectors).search(vectors, 10)
    assert recall_per_query(similarities, exact_search(vectors, vectors, 10)[1]).mean() == 1


def test_index_finds_what_exact_search_finds(engine, vectors, tmp_path):
    build(engine, vectors).save(tmp_path / "index", as_deck(vectors))
    loaded = load_index(tmp_path / "index", as_deck(vectors))
    assert type(loaded) is engine
    similarity = exact_search(vectors, vectors, 10)[1]
    rows, scores = loaded.search(vectors, 10)
    assert recall_per_query(scores, similarity).mean() > 0.95
    assert rows[:, 0].tolist() == list(range(300))
    assert scores[:, 0] == pytest.approx(similarity[:, 0], abs=1e-5)
    assert loaded.search(vectors[:1], 999)[0].shape == (1, 300)
    assert loaded.settings == {"m": 8, "ef_construction": 50, "ef_search": 50}
    narrow = recall_per_query(loaded.search(vectors, 10, ef_search=10)[1], similarity).mean()
    assert narrow < recall_per_query(scores, similarity).mean()


def test_index_does_not_find_hidden_rows(engine, vectors):
    """A query finds as many rows with hidden rows as without, until too few are left."""
    hidden = [{place} | set(range(100 + place)) for place in range(4)] + [set(range(1, 299))]
    rows, similarities = build(engine, vectors).search(vectors[:5], 3, ef_search=300, hidden=hidden)
    exact_rows, exact = exact_search(vectors[:5], vectors, 3, hidden)
    assert rows.tolist() == exact_rows.tolist() and (rows[4] == -1).sum() == 1
    assert similarities == pytest.approx(exact, abs=1e-5, nan_ok=True)


def test_hidden_rows_of_a_graph_with_few_links():
    """The graph of 3,000 vectors, of which many are equal, reaches 50 rows and not all of them."""
    vectors = np.repeat(random_units(30, 4), 100, axis=0)
    index = HnswIndex.build(vectors, m=2, ef_construction=10, seed=1)
    with pytest.raises(InputError, match="does not reach 3000 of 3000 rows"):
        index.search(vectors[:1], 3000)
    rows, _ = index.search(vectors[:1], 50, hidden=[set(range(3, 3000))])
    assert set(rows[0].tolist()) <= {-1, 0, 1, 2}


def test_an_index_is_the_same_every_time(engine, vectors):
    """LanceDB names its files at random, so what the two indexes find is compared."""
    vectors = random_units(3000, 16)
    one, other = (build(engine, vectors).search(vectors[:300], 10, ef_search=10) for _ in range(2))
    assert np.array_equal(one, other)


def test_a_file_of_hnswlib_is_the_same_bytes_every_time(vectors, tmp_path):
    for name in ("a", "b"):
        build(HnswIndex, vectors).save(tmp_path / name, as_deck(vectors))
    assert sha256_of(tmp_path / "a/index.bin") == sha256_of(tmp_path / "b/index.bin")


def test_a_damaged_index_is_never_opened(engine, vectors, tmp_path, monkeypatch):
    """hnswlib can crash the process on such a file."""
    folder = tmp_path / "index"
    build(engine, vectors).save(folder, as_deck(vectors))
    monkeypatch.setattr(engine, "_open", None)
    for file in [one for one in folder.rglob("*") if one.is_file() and one.name != "manifest.json"]:
        whole = file.read_bytes()
        for damaged in (whole[:-10], whole[:-1] + bytes([whole[-1] ^ 1]), b""):
            file.write_bytes(damaged)
            with pytest.raises(InputError, match="is damaged: run `dvc repro -f index`"):
                load_index(folder, as_deck(vectors))
        file.unlink()
        with pytest.raises(InputError, match="is damaged"):
            load_index(folder, as_deck(vectors))
        file.write_bytes(whole)
    with pytest.raises(InputError, match="absent.*is missing"):
        load_index(tmp_path / "absent", as_deck(vectors))


def test_an_index_of_other_vectors_is_refused(engine, vectors, tmp_path):
    folder = tmp_path / "index"
    build(engine, vectors).save(folder, as_deck(vectors))
    for other in (vectors[:299], vectors[:, :8], vectors[::-1], np.vstack([vectors[:299], vectors[:1]])):
        with pytest.raises(InputError, match="belongs to other vectors"):
            load_index(folder, as_deck(other))


def test_loading_an_index_checks_a_known_result(engine, vectors, tmp_path):
    folder = tmp_path / "index"
    build(engine, vectors).save(folder, as_deck(vectors))
    manifest = read_json(folder / "manifest.json")
    assert manifest["known_result"][0] == 0
    manifest["known_result"][1:4] = [297, 298, 299]
    write_json(folder / "manifest.json", manifest)
    with pytest.raises(InputError, match="does not give the result"):
        load_index(folder, as_deck(vectors))
    del manifest["vectors"]
    write_json(folder / "manifest.json", manifest)
    with pytest.raises(InputError, match="lacks 'vectors'"):
        load_index(folder, as_deck(vectors))
    write_json(folder / "manifest.json", manifest | {"engine": "faiss"})
    with pytest.raises(InputError, match="names no known engine"):
        load_index(folder, as_deck(vectors))


def test_a_file_that_was_added_to_an_index_is_an_error(engine, vectors, tmp_path):
    """LanceDB would open the newest version of a table, whoever wrote it."""
    build(engine, vectors).save(tmp_path / "index", as_deck(vectors))
    (tmp_path / "index/added").touch()
    with pytest.raises(InputError, match="added is no part of the index: run `dvc repro -f index`$"):
        load_index(tmp_path / "index", as_deck(vectors))


def test_an_index_can_be_saved_twice(engine, vectors, tmp_path):
    folder = tmp_path / "index"
    for _ in range(2):
        build(engine, vectors).save(folder, as_deck(vectors))
    loaded = load_index(folder, as_deck(vectors))
    assert len(loaded) == 300 and loaded.bytes == sum(
        file.stat().st_size for file in folder.rglob("*") if file.is_file() and file.name != "manifest.json"
    )


@needs("lancedb")
def test_a_table_of_several_graphs_finds_the_rows_of_all(vectors, monkeypatch):
    monkeypatch.setattr(lance_index, "GRAPH_ROWS", 120)  # 300 rows: three graphs of 100
    index = build(ENGINES["lancedb"], vectors)
    (built,) = index._table.list_indices()
    stats = index._table.index_stats(built.name)
    assert (stats.num_indices, stats.num_indexed_rows, stats.num_unindexed_rows) == (3, 300, 0)
    found, similarities = index.search(vectors, RECALL_DEPTH, ef_search=50)
    exact, best = exact_search(vectors, vectors, RECALL_DEPTH)
    assert recall_per_query(similarities, best).mean() > 0.99
    assert found[:, 0].tolist() == exact[:, 0].tolist()
    again = build(ENGINES["lancedb"], vectors).search(vectors, RECALL_DEPTH, ef_search=50)
    assert np.array_equal(found, again[0]) and np.array_equal(similarities, again[1])


@needs("lancedb")
def test_a_search_in_files_that_are_gone_is_an_error_of_one_line(vectors, tmp_path, monkeypatch):
    """As where `dvc repro` writes another index while the page is open."""
    monkeypatch.setenv("MEDCARDS_SCRATCH", str(tmp_path / "scratch"))
    build(ENGINES["lancedb"], vectors).save(tmp_path / "index", as_deck(vectors))
    index = load_index(tmp_path / "index", as_deck(vectors))
    shutil.rmtree(tmp_path / "index/answers.lance")
    with pytest.raises(InputError, match="cannot be searched: .*; start again$"):
        index.search(vectors[:1], 200)


@needs("lancedb")
def test_folders_of_builds_that_were_killed_are_removed(vectors, tmp_path, monkeypatch):
    monkeypatch.setenv("MEDCARDS_SCRATCH", str(tmp_path))
    own = f"{platform.node()}."
    names = f"{own}999999999-left", f"{own}{os.getpid()}-used", f"{own}x", "elsewhere.999999999-used"
    gone, *others = (tmp_path / "index" / name for name in names)
    for folder in (gone, *others):
        folder.mkdir(parents=True)
    index = build(ENGINES["lancedb"], vectors)
    assert not gone.exists() and len(list((tmp_path / "index").iterdir())) == len(others) + 1
    del index
    assert set((tmp_path / "index").iterdir()) == set(others)


def test_an_engine_that_is_not_installed_says_what_to_install(vectors, monkeypatch):
    monkeypatch.setitem(sys.modules, "lancedb", None)
    with pytest.raises(InputError, match="LanceDB is not installed.*requirements-scale.txt"):
        build(ENGINES["lancedb"], vectors)


def test_choose_setting_takes_the_cheapest_that_reaches_the_target(caplog):
    settings = [(32, 100, 10, 0.98), (8, 200, 20, 0.991), (8, 100, 20, 0.99), (16, 100, 20, 0.999), (8, 100, 50, 1.0)]
    grid = pd.DataFrame(settings, columns=["m", "ef_construction", "ef_search", "mean"])
    assert choose_setting(grid, 0.99) == 2
    assert choose_setting(grid, 0.995) == 3
    assert not caplog.messages
    assert choose_setting(grid[1:3], 0.999) == 1  # the best, with a warning
    assert "the best has 0.9910 and is served" in caplog.text and "index.ef_search" in caplog.text


def test_speed_frontier():
    timed = pd.DataFrame({"mean": [0.9, 0.95, 0.94, 0.99, 0.9], "queries_per_second": [50, 40, 30, 20, 10]})
    assert speed_frontier(timed)["mean"].tolist() == [0.9, 0.95, 0.99]


def test_latency_is_measured_one_query_at_a_time():
    asked = []
    times = measure_latency(lambda query: asked.append(len(query)), ["a"] * 20)
    assert asked == [1] * 22 and times["queries"] == 20  # the first two warm up
    assert times["p50_ms"] <= times["p95_ms"] and times["queries_per_second"] > 0


def test_speed_compares_like_with_like():
    """One at a time HNSW is 5 times as fast as exact search; in batch both are faster, and it is twice as fast."""
    exact = {"queries_per_second": 100.0, "p50_ms": 10.0, "queries_per_second_in_batch": 1000.0}
    served = {"queries_per_second": 500.0, "p50_ms": 2.0, "queries_per_second_in_batch": 2000.0, "build_seconds": 1.0}
    found = served_speed(pd.DataFrame([served | {"m": 8}]), 0, exact)
    assert found["ratios"] == {"hnsw_to_exact": 5.0, "hnsw_to_exact_in_batch": 2.0}
    assert found["hnsw"] == served and found["exact"] == exact


def test_speed_in_batch_asks_all_queries_at_once():
    asked = []
    speed = measure_speed(lambda queries: asked.append(len(queries)), np.zeros((20, 4)))
    assert asked == [1] * 22 + [20] and speed["queries_per_second_in_batch"] > 0


def test_indexes_are_built_side_by_side(engine, vectors):
    """They are those that are built alone."""
    sizes, found = {"m": [4, 8, 16], "ef_construction": [50, 100]}, vectors[:50]
    params = IndexParams(engine=engine.engine, **sizes, ef_search=[10], target_recall=0.9)
    indexes, builds = build_indexes(vectors, params, seed=1)
    assert len(indexes) == len(builds) == 6
    for (m, ef_construction), index in indexes.items():
        alone = engine.build(vectors, m, ef_construction, seed=1)
        assert np.array_equal(index.search(found, 10, 10), alone.search(found, 10, 10))


def test_recall_grid_has_one_row_per_setting(engine, vectors):
    params = IndexParams(engine=engine.engine, m=[8, 4], ef_construction=[50], ef_search=[300, 10], target_recall=0.9)
    indexes, builds = build_indexes(vectors, params, seed=1)
    assert builds[["m", "ef_construction"]].to_numpy().tolist() == [[4, 50], [8, 50]]
    exact = exact_search(vectors[:50], vectors, 10)[1]
    grid = recall_grid(indexes, params.ef_search, vectors[:50], exact, Bootstrap(range(50), seed=0))
    assert grid[["ef_search", "m"]].to_numpy().tolist() == [[10, 4], [10, 8], [300, 4], [300, 8]]
    assert grid["mean"][3] == grid.p5[3] == 1 and grid["mean"][0] < grid["mean"][3]  # 300 is all rows
    metrics = grid_metrics(grid)["m 8, ef_construction 50, ef_search 300"]
    assert metrics == {"recall@10": {"mean": 1.0, "lo": 1.0, "hi": 1.0, "n": 50}, "recall@10_p5": 1.0}
