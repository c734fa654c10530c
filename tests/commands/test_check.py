"""The command check, on a deck of the user's own."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import tiny
from conftest import ROOT, Repository
from ruamel.yaml import YAML

from medcards.base.files import read_json
from medcards.base.params import read_params
from medcards.deck.check import check_deck
from medcards.deck.splits import PrepareParams


@pytest.fixture
def check(medcards):
    return lambda *arguments: medcards("check", *arguments)


@pytest.fixture
def deck(tmp_path) -> Path:
    """120 cards in columns with other names, with two blank rows and one repeated row."""
    rows = pd.DataFrame(tiny.deck()).rename(columns={"input": "Front", "output": "Back"}).drop(columns="instruction")
    for number in range(120):  # otherwise all cards are near-duplicates
        rows.loc[number, "Front"] = f"What about {' '.join(f'word{number}x{place}' for place in range(6))}?"
    rows = pd.concat([rows, rows.head(1), pd.DataFrame({"Front": ["", "Why?"], "Back": ["Because.", " "]})])
    rows.to_csv(tmp_path / "deck.csv", index=False)
    return tmp_path / "deck.csv"


def test_check_describes_the_deck_and_prints_the_commands(check, deck):
    done = check(deck)
    assert done.returncode == 0, done.stderr
    assert "123 rows; columns: Front, Back" in done.stdout
    assert "questions in column 'Front': 8 to 8 words" in done.stdout and "answers in column 'Back'" in done.stdout
    cleaned = "changed_whitespace 1, dropped_blank_question 1, dropped_blank_answer 1, dropped_duplicate 1"
    assert f"usable: 120 of 123 rows ({cleaned})" in done.stdout
    assert "splits: 96 train, 12 validation, 12 test" in done.stdout and "will be wide" in done.stdout
    assert "not in decks/" in done.stdout
    expected = [
        "data.path=decks/deck.csv",
        "data.question_column=Front",
        "data.answer_column=Back",
        "eda.min_document_frequency=2",
    ]
    search, run = [line.strip() for line in done.stdout.splitlines() if "make run" in line]
    overrides = " ".join(f"-S {one}" for one in expected)
    assert run == f'make run PROFILE=own_deck ARGS="{overrides}"'
    assert search == f'make run PROFILE=own_deck ARGS="{overrides} -S reranker.model=none" STAGE=rerank_eval'
    params = YAML(typ="safe").load(ROOT / "params.yaml")
    assert all(one.split("=")[0].split(".")[1] in params[one.split(".")[0]] for one in expected)


def test_a_deck_in_the_published_columns_needs_its_path_only(check, tmp_path):
    cards = [
        {
            "input": f"What about word{number}x{number}?",
            "output": " ".join(f"word{(number + step) % 250}" for step in range(20)),
        }
        for number in range(1000)
    ]
    (tmp_path / "deck.json").write_text(json.dumps(cards))
    done = check(tmp_path / "deck.json")
    assert 'PROFILE=own_deck ARGS="-S data.path=decks/deck.json"\n' in done.stdout and "will be wide" not in done.stdout


def test_a_sample_in_params_is_undone_in_the_printed_commands(check, deck):
    """The check describes the whole deck, so the run must keep the whole deck."""
    (params,) = read_params(ROOT / "params.yaml", prepare=PrepareParams)
    sampled = params.model_copy(update={"max_cards": 40})
    findings, overrides = check_deck(deck, "Front", "Back", 42, sampled)
    assert any(line.startswith("usable: 120 of 123") for line in findings) and "prepare.max_cards=0" in overrides
    assert "prepare.max_cards=0" not in check_deck(deck, "Front", "Back", 42, params)[1]


@pytest.mark.parametrize(
    ("change", "arguments", "says"),
    [
        (
            {"Front": "Side A"},
            (),
            "no column is called input or question or front or prompt or query or term (found: Side A, Back)",
        ),
        ({"Front": "Side A"}, ("--question", "Side A"), "data.question_column: 'Side A' needs another name"),
        ({}, ("--answer", "Other"), "has no column 'Other' (found: Front, Back)"),
    ],
)
def test_wrong_input_is_one_line(check, deck, change, arguments, says):
    pd.read_csv(deck).rename(columns=change).to_csv(deck, index=False)
    done = check(deck, *arguments)
    assert done.returncode == 1 and done.stderr.startswith("check: ") and says in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_missing_file_is_one_line(tmp_path):
    """Through the shell."""
    command = [sys.executable, "-m", "medcards", "check", tmp_path / "none.csv"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1 and done.stderr == f"check: {tmp_path / 'none.csv'}: there is no such file\n"


def test_a_deck_that_is_too_small_is_refused(check, deck):
    pd.read_csv(deck).head(2).to_csv(deck, index=False)
    done = check(deck)
    assert done.returncode == 1 and "the deck is too small to split: 2 cards" in done.stderr


@pytest.mark.slow
def test_the_printed_commands_run(check, deck, tmp_path):
    """Through sh, make and dvc, as a user pastes them, but up to the stage prepare only."""
    repository = Repository.of_files(tmp_path / "clone").with_environment()
    shutil.copy(deck, repository.folder / "decks/deck.csv")
    search, run = [line.strip() for line in check(deck).stdout.splitlines() if "make run" in line]
    assert "rerank_eval" in YAML(typ="safe").load(ROOT / "dvc.yaml")["stages"]
    for command, reranker in ((search.removesuffix(" STAGE=rerank_eval"), "none"), (run, "train")):
        repository.run("sh", "-c", f"{command} STAGE=prepare")
        params = YAML(typ="safe").load(repository.folder / "params.yaml")
        assert params["data"]["path"] == "decks/deck.csv" and params["data"]["source"] == "file"
        assert params["data"]["question_column"] == "Front" and params["eda"]["min_document_frequency"] == 2
        assert params["reranker"]["model"] == reranker
        assert read_json(repository.folder / "data/cards/manifest.json")["cards"] == 120
