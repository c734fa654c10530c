"""A deck that does not fit into one file: cards and vectors in shards, and Parquet files that are read in parts."""

import numpy as np
import pandas as pd
import pyarrow.parquet
import pytest
import tiny
from conftest import Repository

from medcards import InputError
from medcards.base.files import read_json, sha256_of
from medcards.base.stacked import StackedArray
from medcards.deck.cards import clean, load_cards
from medcards.deck.description import cleaning_report
from medcards.deck.sources import read_files
from medcards.search.vectors import search_vectors

STAGES = ("prepare", "embed", "adapt", "audit", "index", "rerank_train", "rerank_eval")


def run(repository: Repository, *stages: str) -> None:
    for stage in stages:
        repository.run_here(stage)


def hashes(repository: Repository) -> dict[str, str]:
    """The hash of every file of cards and vectors."""
    data = repository.folder / "data"
    files = [file for name in ("cards", "vectors") for file in (data / name).iterdir()]
    return {str(file.relative_to(data)): sha256_of(file) for file in files}


@pytest.fixture(scope="module")
def deck(repository) -> Repository:
    """The tiny deck as a folder of two Parquet files."""
    rows = pd.DataFrame(tiny.deck())
    (repository.folder / "decks/tiny.json").unlink()
    rows[:70].to_parquet(repository.folder / "decks/1.parquet")
    rows[70:].to_parquet(repository.folder / "decks/2.parquet")
    repository.set_params(data__path="decks", reranker__model="path:models/reranker/tiny", adapt__projection_epochs=2)
    run(repository, "models")
    return repository


def small_shards(monkeypatch) -> None:
    """Shards of 50 cards, and tables of 30 rows."""
    monkeypatch.setattr("medcards.deck.cards.SHARD_CARDS", 50)
    monkeypatch.setattr("medcards.deck.tables.PARQUET_ROWS", 30)
    monkeypatch.setattr("medcards.search.exact.ROW_BLOCK", 32)


def test_shards_change_no_result(deck, monkeypatch):
    """120 cards in one shard, and in three."""
    data = deck.folder / "data"

    def results() -> tuple:
        run(deck, *STAGES)
        cards = load_cards(data / "cards")
        vectors = search_vectors(data, cards)
        ranked = pd.read_parquet(data / "rankings/validation-own.parquet")
        return cards, np.asarray(vectors.answers), vectors.questions_of(cards.card_id), ranked, deck.figures("audit")

    cards, answers, questions, ranked, audit = results()
    small_shards(monkeypatch)
    cards_again, answers_again, questions_again, ranked_again, audit_again = results()
    assert {file.name for file in (data / "cards").iterdir()} == {
        *(f"cards-0000{number}.parquet" for number in (1, 2, 3)),
        *("splits.parquet", "manifest.json"),
    }
    assert len(list((data / "encoder/vectors").glob("answers-*.npy"))) == 3
    pd.testing.assert_frame_equal(cards_again, cards)
    assert answers_again == pytest.approx(answers, abs=1e-6) and questions_again == pytest.approx(questions, abs=1e-6)
    columns = ["system", "query", "rank", "answer"]
    first, first_again = (table[table["rank"] <= 10][columns] for table in (ranked, ranked_again))
    pd.testing.assert_frame_equal(first_again, first)
    assert audit_again == audit


def test_cards_that_are_added_to_the_end_change_the_last_shard_only(deck, monkeypatch):
    small_shards(monkeypatch)
    run(deck, "prepare", "embed")
    before = hashes(deck)
    added = pd.DataFrame(tiny.deck(123))[120:]
    added.to_parquet(deck.folder / "decks/3.parquet")
    run(deck, "prepare", "embed")
    after = hashes(deck)
    (deck.folder / "decks/3.parquet").unlink()
    changed = {name for name in after if after[name] != before.get(name)}
    assert {name.split("-")[-1] for name in changed if "-" in name} == {"00003.parquet", "00003.npy"}
    assert read_json(deck.folder / "data/cards/manifest.json")["cards"] == 123
    assert {name for name in changed if "-" not in name} == {
        *("cards/splits.parquet", "cards/manifest.json", "vectors/manifest.json")
    }


def test_a_parquet_file_is_read_in_tables(tmp_path, monkeypatch):
    rows = pd.DataFrame({"instruction": ["Answer."] * 4 + ["Other?"], "input": list("abcde"), "output": list("vwxyz")})
    rows.to_parquet(tmp_path / "deck.parquet")
    monkeypatch.setattr("medcards.deck.tables.PARQUET_ROWS", 2)
    raw, material = read_files(tmp_path / "deck.parquet", "auto", "auto")
    sizes = []
    cards, counts, _ = clean(sizes.append(len(table)) or table for table in raw)
    assert sizes == [2, 2, 1] and counts["kept"] == 5
    assert cards.question.tolist() == list("abcde")
    assert material["rows"] == 5
    assert material["files"]["deck.parquet"]["columns"]["question"] == "column 'input', since 'instruction' repeats"


def test_all_tables_decide_whether_the_instruction_is_the_question(tmp_path, monkeypatch):
    """The first two rows repeat their instruction, and most of the four do not."""
    rows = {"instruction": ["Answer.", "Answer.", "What is gout?", "What is fever?"], "input": ["a", "b", "", ""]}
    pd.DataFrame(rows | {"output": list("wxyz")}).to_parquet(tmp_path / "deck.parquet")
    monkeypatch.setattr("medcards.deck.tables.PARQUET_ROWS", 2)
    cards, _, _ = clean(read_files(tmp_path / "deck.parquet", "auto", "auto")[0])
    assert cards.question.tolist() == ["Answer. a", "Answer. b", "What is gout?", "What is fever?"]


def test_a_number_is_one_text_in_all_tables(tmp_path, monkeypatch):
    """The second table has an empty cell. Row 3 repeats row 1."""
    answers = pd.array([7, 8, 7, None], dtype="Int64")
    pd.DataFrame({"question": list("abac"), "answer": answers}).to_parquet(tmp_path / "deck.parquet")
    monkeypatch.setattr("medcards.deck.tables.PARQUET_ROWS", 2)
    cards, counts, _ = clean(read_files(tmp_path / "deck.parquet", "auto", "auto")[0])
    assert cards.answer.tolist() == ["7", "8"]
    assert counts["dropped_duplicate"] == counts["dropped_blank_answer"] == 1


def test_a_bad_cell_is_named_by_its_row_in_the_file(tmp_path, monkeypatch):
    answers = [["a"], ["b"], ["c"], [], ["e"]]
    table = pyarrow.table({"question": list("abcde"), "answer": answers})
    bad = pyarrow.array([[], [], [], [{"x": 1}], []], pyarrow.list_(pyarrow.struct([("x", pyarrow.int64())])))
    pyarrow.parquet.write_table(table.set_column(1, "answer", bad), tmp_path / "deck.parquet")
    monkeypatch.setattr("medcards.deck.tables.PARQUET_ROWS", 2)
    with pytest.raises(InputError, match="row 4: .* is neither a text"):
        clean(read_files(tmp_path / "deck.parquet", "auto", "auto")[0])


def test_examples_and_duplicates_are_counted_over_all_tables():
    """Row 6 repeats row 2, which stands in another table."""
    other = {"concept": "", "branch": "", "query_set": "own", "source": "test", "drop": ""}
    rows = pd.DataFrame({"question": ["a ", "b", "c ", "d ", "e ", "b", "f ", "g ", "h "], "answer": ["x"] * 9} | other)
    whole, parts = ([rows], [rows[start : start + 2].reset_index(drop=True) for start in range(0, 9, 2)])
    (cards, counts, examples), (cards_again, counts_again, examples_again) = clean(whole), clean(parts)
    assert counts_again == counts and counts["dropped_duplicate"] == 1 and counts["kept"] == 8
    assert cards_again.equals(cards)
    assert cleaning_report(counts_again, examples_again) == cleaning_report(counts, examples)
    shown = examples_again.groupby("reason").row.agg(list).to_dict()
    assert shown == {"changed_whitespace": [1, 3, 4, 5, 7], "dropped_duplicate": [6]}


def test_a_stacked_array_reads_like_an_array():
    whole = np.arange(24, dtype=np.float32).reshape(12, 2)
    stacked = StackedArray([whole[:5], whole[5:5], whole[5:6], whole[6:]])
    assert stacked.shape == whole.shape and len(stacked) == 12 and stacked.dtype == whole.dtype
    assert np.array_equal(np.asarray(stacked), whole)
    for rows in (3, -1, [0, 11, 5], [[4, 5], [-1, -12]], [], slice(2, 9), slice(5, 6), slice(4, 4), slice(-3, None)):
        rows = np.array(rows, dtype=int) if isinstance(rows, list) else rows
        assert np.array_equal(stacked[rows], whole[rows]), rows
    assert np.array_equal(np.array(StackedArray([whole])), whole)
    for rows in (12, -13, [0, 12], slice(0, 9, 2), (1, 0), np.ones(12, dtype=bool)):
        with pytest.raises(IndexError):
            stacked[rows]
