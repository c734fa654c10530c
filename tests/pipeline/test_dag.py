"""dvc.yaml says what the code does: its deps, params and outs are compared with the syntax trees."""

import ast
import re
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest
from conftest import ROOT, STAGES
from ruamel.yaml import YAML

from tools.deps import files_of_stage, library_files, with_deps

COMPUTING = [stage for stage in STAGES if stage != "report"]
ROOMS = ("base", "deck", "explore", "search", "llm", "answers", "report", "commands")
BEFORE = {
    "base": set(),
    "deck": {"base"},
    **dict.fromkeys(("explore", "search", "llm"), {"base", "deck"}),
    "answers": {"base", "deck", "explore", "search", "llm"},
    "report": {"base", "deck", "explore", "search", "llm", "answers"},
    "commands": {"base", "deck", "explore", "search", "llm", "answers", "report"},
}
"""The rooms that a room may import, besides itself."""
LIBRARY = sorted(file.relative_to(ROOT) for file in (ROOT / "medcards").rglob("*.py"))


def tree_of(file: Path) -> ast.Module:
    return ast.parse((ROOT / file).read_text())


def imported_modules(file: Path) -> set[str]:
    """The full names of the modules that a file imports, anywhere in it."""
    names = set()
    for node in ast.walk(tree_of(file)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def params_read(stage: str) -> set[str]:
    """The keywords of every ``load_params(...)`` call of a stage's script."""
    calls = [
        node
        for node in ast.walk(tree_of(Path("stages") / f"{stage}.py"))
        if isinstance(node, ast.Call) and getattr(node.func, "id", None) == "load_params"
    ]
    return {keyword.arg for call in calls for keyword in call.keywords}


def paths_in_docstring(stage: str, verb: str) -> set[str]:
    """The paths under data/ that the paragraph ``reads`` or ``writes`` of a stage's docstring names."""
    said = ast.get_docstring(tree_of(Path("stages") / f"{stage}.py"))
    (paragraph,) = re.findall(rf"^{verb} +(.*(?:\n +.*)*)", said, re.MULTILINE)
    paragraph = re.sub(r"([\w/.-]*)\{([\w.,/-]*)\}([\w.]*)", r"\1", paragraph)  # data/rows/{a,b}.parquet
    return {path.rstrip("/.") for path in re.findall(r"data/[\w/.-]+", paragraph)}


def test_make_deps_changes_nothing():
    """`make deps` was run after the last change of an import."""
    text = (ROOT / "dvc.yaml").read_text()
    assert with_deps(text) == text


@pytest.mark.parametrize("stage", STAGES)
def test_deps_are_the_imports(stage):
    assert {dep for dep in STAGES[stage]["deps"] if dep.endswith(".py")} == set(files_of_stage(stage))


@pytest.mark.parametrize("stage", STAGES)
def test_params_are_what_is_read(stage):
    assert {name.partition(".")[0] for name in STAGES[stage]["params"]} == params_read(stage)


@pytest.mark.parametrize("stage", COMPUTING)
def test_docstrings_name_what_a_stage_reads_and_writes(stage):
    data = {dep for dep in STAGES[stage]["deps"] if dep.startswith("data/")}
    assert paths_in_docstring(stage, "reads") == data
    written = paths_in_docstring(stage, "writes")
    assert all(any(path == out or path.startswith(f"{out}/") for path in written) for out in STAGES[stage]["outs"])


@pytest.mark.parametrize("stage", COMPUTING)
def test_compute_stages_write_cached_outs_under_data_only(stage):
    """Then DVC keeps every run in its run cache."""
    outs = STAGES[stage]["outs"]
    assert f"data/figures/{stage}" in outs or stage == "models"  # which measures nothing
    assert all(isinstance(out, str) and out.startswith("data/") for out in outs)
    assert not set(STAGES[stage]) & {"metrics", "plots"}


def test_report_alone_writes_what_is_in_git():
    assert {path for out in STAGES["report"]["outs"] for path in out} == {
        "metrics",
        "plots",
        "REPORT.md",
        "docs/DATASET_CARD.md",
    }
    assert all(options == {"cache": False} for out in STAGES["report"]["outs"] for options in out.values())


@pytest.mark.parametrize("stage", COMPUTING)
def test_no_compute_stage_reaches_what_only_shows(stage):
    assert not [file for file in files_of_stage(stage) if "/report/" in file or "/commands/" in file]


@pytest.mark.parametrize("stage", STAGES)
def test_every_stage_says_what_it_is(stage):
    assert STAGES[stage]["desc"]
    python = "${finetune.launch}" if stage == "finetune" else "python"  # several devices need a launcher
    assert STAGES[stage]["cmd"] == f"{python} -m stages.{stage}"


def stages_after(stage: str) -> set[str]:
    """The stages that read what a stage wrote, or what such a stage wrote."""
    outs = STAGES[stage]["outs"]
    readers = {name for name in COMPUTING if any(dep in outs for dep in STAGES[name]["deps"])}
    return readers.union(*(stages_after(reader) for reader in readers))


@pytest.mark.parametrize(
    ("stage", "runs"),
    [
        ("adapt", {"index", "rerank_train", "rerank_eval", "answer", "evaluate"}),
        ("rerank_eval", {"answer", "evaluate"}),
        ("finetune", {"answer", "quantise_eval", "evaluate"}),
        ("eda", set()),
        ("audit", set()),
        ("evaluate", set()),
    ],
)
def test_a_change_runs_no_stage_that_does_not_use_it(stage, runs):
    """A search experiment trains no language model, an adaptation explores nothing, and a score asks no question."""
    assert stages_after(stage) == runs


@pytest.mark.parametrize("stage", ["audit", "eda", "rows", "answer", "evaluate"])
def test_similarity_is_that_of_the_unadapted_encoder(stage):
    """An adaptation changes neither the similarity to training, nor the bins by it, nor the similarity of answers."""
    assert not [dep for dep in STAGES[stage]["deps"] if dep.startswith("data/encoder")]


def test_every_script_is_a_stage():
    assert {path.stem for path in (ROOT / "stages").glob("*.py")} - {"__init__"} == set(STAGES)


@pytest.mark.parametrize("stage", STAGES)
def test_stage_scripts_are_short_and_hold_no_class_or_closure(stage):
    file = Path("stages") / f"{stage}.py"
    assert len((ROOT / file).read_text().splitlines()) <= 120
    for node in ast.walk(tree_of(file)):
        assert not isinstance(node, ast.ClassDef)
        if isinstance(node, ast.FunctionDef):
            inner = [child for child in ast.walk(node) if isinstance(child, ast.FunctionDef) and child is not node]
            assert not inner, f"{node.name} holds {inner[0].name}"


def test_every_block_is_read_by_some_stage():
    blocks = YAML(typ="safe").load((ROOT / "params.yaml").read_text())
    del blocks["compute"]  # it changes no result, so no stage depends on it
    assert set(blocks) == {name.partition(".")[0] for stage in STAGES.values() for name in stage["params"]}


@pytest.mark.parametrize("file", LIBRARY, ids=str)
def test_imports_run_one_way(file):
    """A room imports itself and the rooms before it. One command alone reads what DVC keeps."""
    room = file.parts[1] if len(file.parts) > 2 else ""
    for name in imported_modules(file):
        first, *rest = name.split(".")
        assert first not in ("stages", "tests", "tools")
        assert first != "dvc" or str(file) == "medcards/commands/compare.py"
        if room and first == "medcards" and rest and rest[0] in ROOMS:
            assert rest[0] in BEFORE[room] | {room}, f"{file} imports {name}"


@pytest.mark.parametrize("file", LIBRARY, ids=str)
def test_no_module_is_over_300_lines(file):
    assert len((ROOT / file).read_text().splitlines()) <= 300


def test_no_public_name_is_defined_in_two_modules():
    """Commands all have ``add_arguments`` and ``run``; modules may each have a ``log``."""
    defined = defaultdict(set)
    for file in LIBRARY:
        for node in tree_of(file).body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                defined[node.name].add(str(file))
            elif isinstance(node, ast.Assign | ast.AnnAssign):
                targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                for name in (part.id for target in targets for part in ast.walk(target) if isinstance(part, ast.Name)):
                    defined[name].add(str(file))
    several = {name: files for name, files in defined.items() if len(files) > 1 and not name.startswith("_")}
    assert set(several) <= {"add_arguments", "run", "log"}, several


def test_search_imports_only_what_it_needs():
    """So that the first answer comes soon."""
    code = "import sys; from medcards.search import Searcher; import medcards.commands.search; print(*sys.modules)"
    modules = set(subprocess.check_output([sys.executable, "-c", code], cwd=ROOT, text=True).split())
    assert not modules & {"torch", "sentence_transformers", "datasets", "matplotlib", "peft", "trl"}


def test_searcher_is_not_behind_every_search_module():
    """``from medcards.search import Searcher`` works, but a stage that imports one search module gets no other one."""
    assert library_files(Path("medcards/search/__init__.py")) == ["medcards/search/__init__.py"]
