"""The check of a deck of the user's own, at the command line."""

import json
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import tiny
from ruamel.yaml import YAML

ROOT = Path(__file__).parent.parent


def check(*arguments: object) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "medcards.deck.check", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


@pytest.fixture
def deck(tmp_path) -> Path:
    """120 cards in columns of other names, two of them blank and one repeated."""
    rows = pd.DataFrame(tiny.deck()).rename(columns={"input": "Front", "output": "Back"}).drop(columns="instruction")
    for number in range(120):  # else they are all near-duplicates
        rows.loc[number, "Front"] = f"What about {' '.join(f'word{number}x{place}' for place in range(6))}?"
    rows = pd.concat([rows, rows.head(1), pd.DataFrame({"Front": ["", "Why?"], "Back": ["Because.", " "]})])
    rows.to_csv(tmp_path / "deck.csv", index=False)
    return tmp_path / "deck.csv"


def test_it_says_what_is_there_and_how_to_run_it(deck):
    done = check(deck)
    assert done.returncode == 0, done.stderr
    assert "123 rows; columns: Front, Back" in done.stdout
    assert "questions from 'Front': 8 to 8 words" in done.stdout and "answers from 'Back'" in done.stdout
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
    search, run = [line.strip() for line in done.stdout.splitlines() if "dvc exp run" in line]
    overrides = " ".join(f"-S {one}" for one in expected)
    assert run == f"(cat profiles/own_deck.args; echo {overrides}) | xargs dvc exp run"
    assert search == run.replace(")", " -S reranker.model=none)") + " rerank_eval"
    params = YAML(typ="safe").load(ROOT / "params.yaml")
    assert all(one.split("=")[0].split(".")[1] in params[one.split(".")[0]] for one in expected)


def test_a_deck_in_the_published_columns_needs_its_path_only(tmp_path):
    cards = [
        {
            "input": f"What about word{number}x{number}?",
            "output": " ".join(f"word{(number + step) % 250}" for step in range(20)),
        }
        for number in range(1000)
    ]
    (tmp_path / "deck.json").write_text(json.dumps(cards))
    done = check(tmp_path / "deck.json")
    assert "echo -S data.path=decks/deck.json)" in done.stdout and "will be wide" not in done.stdout


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
def test_what_is_wrong_is_said_in_a_line(deck, change, arguments, says):
    pd.read_csv(deck).rename(columns=change).to_csv(deck, index=False)
    done = check(deck, *arguments)
    assert done.returncode == 1 and done.stderr.startswith("check: ") and says in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_no_such_file(tmp_path):
    done = check(tmp_path / "none.csv")
    assert done.returncode == 1 and done.stderr == f"check: {tmp_path / 'none.csv'}: there is no such file\n"


def test_a_deck_that_is_too_small(deck):
    pd.read_csv(deck).head(2).to_csv(deck, index=False)
    done = check(deck)
    assert done.returncode == 1 and "the deck is too small to split: 2 cards" in done.stderr
