"""The command export --answers: its tables, its page, and what is refused. test_browser.py opens the page."""

import csv
import json
import re
from pathlib import Path

import pandas as pd
import pytest
from answered import ANSWERS, IMAGE, RIGHT_TO_LEFT, SCORES, SCRIPT, write_answered


@pytest.fixture
def data(tmp_path) -> Path:
    return write_answered(tmp_path / "data")


@pytest.fixture
def export(medcards, data, tmp_path):
    return lambda *arguments: medcards("export", "--answers", "--to", tmp_path / "mine", "--data", data, *arguments)


def test_the_table_has_one_row_per_question_and_system(export, tmp_path):
    done = export()
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        f"{tmp_path}/mine: 6 answers of 2 systems to 3 questions",
        f"open {tmp_path}/mine/answers.html in a browser",
    ]
    assert {file.name for file in (tmp_path / "mine").iterdir()} == {"answers.csv", "answers.parquet", "answers.html"}
    table = pd.read_parquet(tmp_path / "mine/answers.parquet")
    assert list(table) == [
        *("system", "card_id", "group", "question", "answer", "reference", "read", "similarity_to_training"),
        *("contradictions", "token_f1", "sound_f1", "contradiction_number", "contradiction_side"),
    ]
    rows = table.set_index(["card_id", "system"])
    assert rows.loc["aaaa", "base"][["question", "answer", "reference"]].tolist() == [
        "What is gout?",
        "=1+1",
        "A disease of the joints.",
    ]
    assert rows.read["aaaa", "base"] is None
    assert list(rows.read["aaaa", "lora_rag"]) == ["-1 card", "Gout & <b>pain</b>"]
    assert rows.contradictions.to_dict() == {
        ("aaaa", "base"): "",
        ("aaaa", "lora_rag"): "",
        ("bbbb", "base"): "number, side",
        ("bbbb", "lora_rag"): "side",
        ("cccc", "base"): "",
        ("cccc", "lora_rag"): "",
    }
    assert rows.sound_f1["aaaa", "lora_rag"] == 0.75 and rows.similarity_to_training["cccc", "base"] == -0.125
    assert rows.group["bbbb", "base"] == "g2" and pd.isna(rows.sound_f1["cccc", "base"])


def test_a_spreadsheet_runs_no_text_of_the_csv(export, tmp_path):
    export()
    with open(tmp_path / "mine/answers.csv", encoding="utf-8-sig", newline="") as file:
        rows = {(row["card_id"], row["system"]): row for row in csv.DictReader(file)}
    assert rows["aaaa", "base"]["answer"] == "'=1+1" and rows["aaaa", "base"]["read"] == ""
    assert rows["aaaa", "lora_rag"]["read"] == "'-1 card\nGout & <b>pain</b>"
    assert rows["aaaa", "lora_rag"]["token_f1"] == "0.857143" and rows["cccc", "base"]["sound_f1"] == ""
    assert rows["cccc", "base"]["similarity_to_training"] == "-0.125"  # a number is no text
    assert rows["bbbb", "base"]["answer"] == IMAGE and rows["cccc", "base"]["question"] == RIGHT_TO_LEFT


def test_the_page_holds_the_texts_as_data(export, tmp_path):
    export()
    page = (tmp_path / "mine/answers.html").read_text(encoding="utf-8")
    assert len(re.findall("<script", page)) == len(re.findall("</script", page)) == 2  # the data and the program
    assert "http:" not in page and "https:" not in page and "default-src 'none'" in page
    (block,) = re.findall(r'<script type="application/json" id="data">(.*)</script>', page)
    data = json.loads(block)
    assert data["kinds"] == [["Closed book", ["base"]], ["Training cards as context", ["lora_rag"]]]
    assert [question["question"] for question in data["questions"]] == ["What is gout?", SCRIPT, RIGHT_TO_LEFT]
    assert data["contradictions"] == ["number", "side"]
    assert data["questions"][1]["answers"]["base"] == {
        "text": IMAGE,
        "read": [],
        "contradictions": ["number", "side"],
        "scores": [0.0, 0.125, 1.0, 1.0],
    }
    assert data["questions"][2]["answers"]["lora_rag"]["scores"] == [1.0, None, 0.0, None]


def test_the_split_of_a_question_is_kept(medcards, tmp_path):
    data = write_answered(tmp_path / "data", scores=SCORES.assign(split="test"))
    assert medcards("export", "--answers", "--to", tmp_path / "mine", "--data", data).returncode == 0
    assert list(pd.read_parquet(tmp_path / "mine/answers.parquet").split) == ["test"] * 6
    assert '"split": "test"' in (tmp_path / "mine/answers.html").read_text()


@pytest.mark.parametrize(
    ("missing", "stage"), [("answers/answers.jsonl", "answer"), ("scores/scores.parquet", "evaluate")]
)
def test_a_missing_run_is_one_line(export, data, tmp_path, missing, stage):
    (data / missing).unlink()
    done = export()
    assert done.returncode == 1 and done.stdout == ""
    assert done.stderr == f"export: {data / missing} is missing: run `dvc repro {stage}`\n"
    assert [file.name for file in tmp_path.iterdir()] == ["data"]


@pytest.mark.parametrize(
    "answers",
    [
        [ANSWERS[0] | {"answers": {"base": "gout", "lora_rag": "A disease of the joints."}}, *ANSWERS[1:]],
        [row | {"answers": row["answers"] | {"lora": "gout"}} for row in ANSWERS],
        [row | {"answers": {"base": row["answers"]["base"]}} for row in ANSWERS],
    ],
    ids=["other texts", "one more system", "one system less"],
)
def test_scores_of_other_answers_are_refused(medcards, tmp_path, answers):
    data = write_answered(tmp_path / "data", answers)
    done = medcards("export", "--answers", "--to", tmp_path / "mine", "--data", data)
    assert (done.returncode, done.stderr) == (
        1,
        f"export: {data}/scores holds the scores of other answers: run `dvc repro evaluate`\n",
    )
    assert [file.name for file in tmp_path.iterdir()] == ["data"]


def test_only_an_earlier_export_is_replaced(export, tmp_path):
    assert export().returncode == 0
    (tmp_path / "mine/answers.csv").write_text("old")
    done = export()
    assert done.returncode == 1 and "exists: choose another name, or replace it with --overwrite" in done.stderr
    assert (tmp_path / "mine/answers.csv").read_text() == "old"
    assert export("--overwrite").returncode == 0 and (tmp_path / "mine/answers.csv").read_text() != "old"
    (tmp_path / "mine/answers.html").unlink()
    done = export("--overwrite")
    assert done.returncode == 1 and "is not an earlier export, so it is not replaced" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "status", "says"),
    [
        (["--adapter"], 2, "argument --adapter: not allowed with argument --answers; see `"),
        (["--dtype", "bfloat16"], 1, "--dtype has no meaning with --answers: leave one of them out"),
        (["--min-agreement", "0"], 1, "--min-agreement has no meaning with --answers: leave one of them out"),
        (["--metrics", "metrics"], 1, "--metrics has no meaning with --answers: leave one of them out"),
    ],
)
def test_options_of_another_mode_are_one_line(export, tmp_path, arguments, status, says):
    done = export(*arguments)
    assert done.returncode == status and done.stderr.startswith(f"export: {says}") and done.stderr.count("\n") == 1
    assert not (tmp_path / "mine").exists()
