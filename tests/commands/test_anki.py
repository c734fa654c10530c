"""The command anki: its files, imported by Anki itself."""

import json
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from conftest import ROOT, needs

from medcards.deck import cards as card_tables

pytestmark = needs("anki")
FRONT, BACK = "What is <b>gout</b>?", 'Pain, "arthritis" & more.'


@pytest.fixture
def data(tmp_path) -> Path:
    """Two cards, and a layperson's question for the second card, which is not a card of its own."""
    cards = pd.DataFrame(
        {
            "card_id": ["aaaa", "bbbb", "cccc"],
            "question": [FRONT, "Name a cyst.", "Which bag?"],
            "answer": [BACK, "A sac.", "A sac."],
            "query_set": ["own", "own", "layperson"],
            "split": ["train", "test", "test"],
        }
    )
    cards = cards.reindex(columns=[*card_tables.CARD_COLUMNS, "split"], fill_value="")
    card_tables.save_cards(cards, tmp_path / "data/cards", {"source": "file"})
    answers = {"echo": "Name a cyst.", "lora": "A <i>bag</i>\nof fluid."}
    row = {"card_id": "bbbb", "question": "Name a cyst.", "reference": "A sac.", "answers": answers}
    (tmp_path / "data/answers").mkdir()
    (tmp_path / "data/answers/answers.jsonl").write_text(json.dumps(row) + "\n")
    return tmp_path / "data"


@pytest.fixture
def anki(medcards, data):
    return lambda *arguments, data=data: medcards("anki", *arguments, "--data", data)


def imported(file: Path) -> list[tuple[str, str, list[str], str]]:
    """Front, back, tags and deck of every note, after two imports of the file into one collection."""
    from anki.collection import Collection
    from anki.import_export_pb2 import ImportCsvRequest

    collection = Collection(str(file.with_suffix(".anki2")))
    for _ in range(2):
        metadata = collection.get_csv_metadata(str(file), None)
        collection.import_csv(ImportCsvRequest(path=str(file), metadata=metadata))
    notes = [collection.get_note(note) for note in sorted(collection.find_notes(""))]
    found = [(*note.fields, note.tags, collection.decks.name(note.cards()[0].did)) for note in notes]
    collection.close()
    return found


def test_the_deck(data, tmp_path):
    """Through the shell."""
    command = [sys.executable, "-m", "medcards", "anki", tmp_path / "deck.txt", "--data", data]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.startswith("anki: 2 notes in "), done.stderr
    assert imported(tmp_path / "deck.txt") == [
        ("What is &lt;b&gt;gout&lt;/b&gt;?", 'Pain, "arthritis" &amp; more.', ["train"], "medcards::deck"),
        ("Name a cyst.", "A sac.", ["test"], "medcards::deck"),
    ]


def test_the_answers_of_a_system(anki, tmp_path):
    done = anki(tmp_path / "lora.txt", "--system", "lora")
    assert done.returncode == 0, done.stderr
    back = "A sac.<hr>lora: A &lt;i&gt;bag&lt;/i&gt;<br>of fluid."
    assert imported(tmp_path / "lora.txt") == [("Name a cyst.", back, ["test"], "medcards::lora")]


def test_wrong_input_is_one_line(anki, tmp_path):
    done = anki(tmp_path / "none.txt", "--system", "lorra")
    assert done.returncode == 1 and done.stderr == (
        "anki: --system lorra was not asked (asked: echo, lora); see answer.systems\n"
    )
    done = anki(tmp_path / "none.txt", data=tmp_path)
    assert done.returncode == 1 and done.stderr.endswith("is missing: run `dvc repro prepare`\n")
    assert not (tmp_path / "none.txt").exists()
