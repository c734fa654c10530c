"""What Anki itself makes of the files: the deck, and a system's answers beside the references."""

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
    """Two cards, and a layperson's question of the second, which is no card of the deck's own."""
    cards = pd.DataFrame(
        {
            "card_id": ["aaaa", "bbbb", "cccc"],
            "question": [FRONT, "Name a cyst.", "Which bag?"],
            "answer": [BACK, "A sac.", "A sac."],
            "query_set": ["own", "own", "layperson"],
            "split": ["train", "test", "test"],
        }
    )
    card_tables.save(cards.reindex(columns=[*card_tables.COLUMNS, "split"], fill_value=""), tmp_path / "data/cards")
    answers = {"echo": "Name a cyst.", "lora": "A <i>bag</i>\nof fluid."}
    row = {"card_id": "bbbb", "question": "Name a cyst.", "reference": "A sac.", "answers": answers}
    (tmp_path / "data/predictions").mkdir()
    (tmp_path / "data/predictions/predictions.jsonl").write_text(json.dumps(row) + "\n")
    return tmp_path / "data"


def write(data: Path, *arguments: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "medcards.report.anki", *arguments, "--data", str(data)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


def imported(file: Path) -> list[tuple[str, str, list[str], str]]:
    """Front, back, tags and deck of every note, after Anki imported the file twice, as it suggests."""
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
    done = write(data, str(tmp_path / "deck.txt"))
    assert done.returncode == 0 and done.stdout.startswith("anki: 2 cards in "), done.stderr
    assert imported(tmp_path / "deck.txt") == [
        ("What is &lt;b&gt;gout&lt;/b&gt;?", 'Pain, "arthritis" &amp; more.', ["train"], "medcards::deck"),
        ("Name a cyst.", "A sac.", ["test"], "medcards::deck"),
    ]


def test_the_answers_of_a_system(data, tmp_path):
    done = write(data, str(tmp_path / "lora.txt"), "--system", "lora")
    assert done.returncode == 0, done.stderr
    back = "A sac.<hr>lora: A &lt;i&gt;bag&lt;/i&gt;<br>of fluid."
    assert imported(tmp_path / "lora.txt") == [("Name a cyst.", back, ["test"], "medcards::lora")]


def test_what_is_wrong_is_said_in_a_line(data, tmp_path):
    done = write(data, str(tmp_path / "none.txt"), "--system", "lorra")
    assert done.returncode == 1 and done.stderr == (
        "anki: --system lorra: it was not asked (asked: echo, lora); see evaluate.systems\n"
    )
    done = write(tmp_path, str(tmp_path / "none.txt"))
    assert done.returncode == 1 and done.stderr.endswith("is missing: run `dvc repro prepare`\n")
    assert not (tmp_path / "none.txt").exists()
