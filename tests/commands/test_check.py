"""The command check, on a deck of the user's own."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import tiny
from conftest import ROOT, Repository

from medcards.base.params import read_params
from medcards.deck.cards import clean, load_cards
from medcards.deck.check import check_deck, run_command
from medcards.deck.sources import read_files
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


def test_check_describes_the_deck_and_prints_one_command(check, deck):
    done = check(deck)
    assert done.returncode == 0, done.stderr
    first, *_ = done.stdout.splitlines()
    assert first == "deck.csv: CSV, separator comma; question: column 'Front'; answer: column 'Back'"
    assert "questions: 8 to 8 words" in done.stdout
    cleaned = "changed_whitespace 1, dropped_blank_question 1, dropped_blank_answer 1, dropped_duplicate 1"
    assert f"usable: 120 of 123 rows ({cleaned})" in done.stdout
    assert "splits: 96 train, 12 validation, 12 test" in done.stdout and "will be wide" in done.stdout
    assert "first card: What about word0x0" in done.stdout
    command = re.escape(f"python -m medcards check {deck} --write && make run PROFILE=own_deck DECK=decks/deck-")
    assert re.fullmatch(command + r"[0-9a-f]{6}\.jsonl", done.stdout.splitlines()[-1].strip())


def test_a_sample_in_params_is_undone_in_the_printed_command(deck):
    """The check describes the whole deck, so the run must keep the whole deck."""
    (params,) = read_params(ROOT / "params.yaml", prepare=PrepareParams)
    sampled = params.model_copy(update={"max_cards": 40})
    findings, _, overrides = check_deck(deck, "auto", "auto", 42, sampled, 256)
    assert any(line.startswith("usable: 120 of 123") for line in findings) and overrides == ["prepare.max_cards=0"]
    assert check_deck(deck, "auto", "auto", 42, params, 256)[2] == []
    command = run_command(Path("decks/a.csv"), "auto", "auto", Path("decks/b.jsonl"), [*overrides, "seed=1"])
    assert command == 'make run PROFILE=own_deck DECK=decks/a.csv ARGS="-S prepare.max_cards=0 -S seed=1"'


def test_long_questions_get_longer_training_rows(check, deck):
    rows = pd.read_csv(deck)
    rows["Front"] += " and so on" * 100
    rows.to_csv(deck, index=False)
    assert check(deck).stdout.splitlines()[-1].endswith('ARGS="-S finetune.max_length=1024"')


def test_write_puts_a_clean_copy_into_decks(check, deck, tmp_path, monkeypatch):
    rows = pd.read_csv(deck)
    rows.loc[5, "Back"] = "Write &lt;b&gt; for a &amp; b"
    rows.to_csv(deck, index=False)
    monkeypatch.setattr("medcards.deck.check.DECKS", tmp_path / "decks")
    (tmp_path / "decks").mkdir()
    done = check(deck, "--write")
    (copy,) = (tmp_path / "decks").iterdir()
    assert f"{copy} holds 120 clean cards" in done.stdout
    assert done.stdout.splitlines()[-1].strip() == f"make run PROFILE=own_deck DECK={copy}"
    before, after = (clean(read_files(file, "auto", "auto")[0])[0] for file in (deck, copy))
    assert after[["question", "answer"]].equals(before[["question", "answer"]])
    assert before.answer[5] == "Write <b> for a & b"
    rows = pd.read_csv(deck)
    rows.loc[7, "Back"] = "Another answer."
    rows.to_csv(deck, index=False)
    check(deck, "--write")
    assert len(list((tmp_path / "decks").iterdir())) == 2  # the copy of other cards has another name


def test_a_folder_is_checked(check, deck, tmp_path):
    (tmp_path / "more").mkdir()
    shutil.copy(deck, tmp_path / "more/a.csv")
    (tmp_path / "more/b.jsonl").write_text('{"question": "What is gout?", "answer": "An arthritis of the joints."}')
    done = check(tmp_path / "more")
    assert "usable: 121 of 124" in done.stdout and "b.jsonl: JSON" in done.stdout


def test_head_may_close_the_pipe(deck):
    """Through the shell, as a user types it."""
    line = f"{sys.executable} -m medcards check {deck} | head -1"
    done = subprocess.run(["bash", "-o", "pipefail", "-c", line], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.startswith("deck.csv: CSV") and "Traceback" not in done.stderr


def test_a_deck_that_the_encoder_cannot_read_is_said(check, tmp_path, monkeypatch):
    tiny.make_encoder(tmp_path / "encoder")
    monkeypatch.setattr("medcards.base.references.fetched", lambda reference: tmp_path / "encoder")
    rows = [
        {"question": f"{chr(0x4E00 + number)}部感染{number}？", "answer": f"应考虑{number}"} for number in range(60)
    ]
    (tmp_path / "deck.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert "the bi-encoder does not know" in check(tmp_path / "deck.jsonl").stdout


@pytest.mark.parametrize(
    ("change", "arguments", "says"),
    [
        ({}, ("--answer", "Other"), "has no column 'Other' (found: Front, Back); set data.answer_column"),
        ({}, ("--answer", "Front", "--question", "Front"), "are both 'Front': name two columns"),
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
    assert (
        done.returncode == 1
        and done.stderr == f"check: data.path={tmp_path / 'none.csv'}: there is no such file or folder\n"
    )


def test_the_memory_of_long_answers_is_said(check, deck):
    rows = pd.read_csv(deck)
    rows.loc[3, "Back"] = "word " * 1941
    rows.to_csv(deck, index=False)
    assert "the longest answer takes about 2 GB of memory" in check(deck).stdout


def test_a_deck_that_is_too_small_is_refused(check, deck):
    pd.read_csv(deck).head(2).to_csv(deck, index=False)
    done = check(deck)
    assert done.returncode == 1 and "the deck is too small to split: 2 cards" in done.stderr


@pytest.fixture(scope="module")
def clone(tmp_path_factory) -> Repository:
    return Repository.of_files(tmp_path_factory.mktemp("clone")).with_environment()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "head", "arguments"),
    [
        ("Prüfung.csv", ("Vorderseite", "Rückseite"), ()),
        ("my deck's cards.csv", ("null", "True", "0"), ("--question", "null", "--answer", "True")),
    ],
)
def test_the_printed_command_runs(deck, clone, name, head, arguments):
    """Through sh, make and dvc, as a user pastes it, but up to the stage prepare only."""
    table = pd.read_csv(deck)
    table["id"] = range(len(table))
    table = table.iloc[:, : len(head)].set_axis(head, axis=1)
    table.to_csv(clone.folder / name, index=False)
    said = clone.run("python", "-m", "medcards", "check", name, *arguments).stdout
    command = said.splitlines()[-1].strip()
    clone.run("sh", "-c", f"{command} STAGE=prepare")
    cards = load_cards(clone.folder / "data/cards")
    assert len(cards) == 120 and cards.question.str.startswith("What").all()
