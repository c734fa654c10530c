"""dvc.yaml cannot lie: what a stage imports and which params it reads are taken from the syntax tree."""

import ast
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
from ruamel.yaml import YAML

ROOT = Path(__file__).parent.parent
STAGES = YAML(typ="safe").load((ROOT / "dvc.yaml").read_text())["stages"]


def module_file(name: str) -> Path | None:
    """The file of a module of this repository, or None."""
    path = ROOT / name.replace(".", "/")
    for candidate in (path.with_suffix(".py"), path / "__init__.py"):
        if candidate.exists():
            return candidate.relative_to(ROOT)
    return None


@cache
def direct_imports(file: Path) -> frozenset[Path]:
    """Files of this repository that a file imports, anywhere in it, with the packages that they lie in."""
    names = set()
    for node in ast.walk(ast.parse((ROOT / file).read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: a relative import hides what it imports"
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    names |= {name.rpartition(".")[0] for name in names}
    return frozenset(path for name in names if name and (path := module_file(name)))


def library_files(stage: str) -> set[str]:
    """The script of a stage, its package, and everything that they import, transitively."""
    found, waiting = set(), [Path("stages") / f"{stage}.py", Path("stages/__init__.py")]
    while waiting:
        file = waiting.pop()
        if file not in found:
            found.add(file)
            waiting += direct_imports(file)
    return {str(file) for file in found}


def params_read(stage: str) -> set[str]:
    """The keywords of every `load_params(...)` call of a stage's script."""
    calls = [
        node
        for node in ast.walk(ast.parse((ROOT / "stages" / f"{stage}.py").read_text()))
        if isinstance(node, ast.Call) and getattr(node.func, "id", None) == "load_params"
    ]
    return {keyword.arg for call in calls for keyword in call.keywords}


@pytest.mark.parametrize("stage", STAGES)
def test_deps_are_the_imports(stage):
    declared = {dep for dep in STAGES[stage]["deps"] if dep.endswith(".py")}
    assert declared == library_files(stage)


@pytest.mark.parametrize("stage", STAGES)
def test_params_are_what_is_read(stage):
    assert set(STAGES[stage].get("params", [])) == params_read(stage)


@pytest.mark.parametrize("stage", STAGES)
def test_every_stage_says_what_it_is(stage):
    assert STAGES[stage]["desc"]
    python = "${finetune.launch}" if stage == "finetune" else "python"  # several devices need a launcher
    assert STAGES[stage]["cmd"] == f"{python} -m stages.{stage}"


def test_every_script_is_a_stage():
    assert {path.stem for path in (ROOT / "stages").glob("*.py")} - {"__init__"} == set(STAGES)


def test_every_block_is_read_by_some_stage():
    blocks = YAML(typ="safe").load((ROOT / "params.yaml").read_text())
    assert set(blocks) == {block for stage in STAGES.values() for block in stage.get("params", [])}


def test_imports_run_one_way():
    """The library knows neither the stages nor DVC; but one command compares what DVC keeps."""
    for file in set((ROOT / "medcards").glob("*.py")) - {ROOT / "medcards/compare.py"}:
        names = [
            node for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.Import | ast.ImportFrom)
        ]
        modules = {alias.name for node in names for alias in node.names} | {
            getattr(node, "module", "") for node in names
        }
        assert not {module.split(".")[0] for module in modules if module} & {"stages", "dvc", "dvclive"}, file


def test_search_imports_only_what_it_needs():
    """Its first answer is to come within seconds."""
    code = "import sys, medcards.search; print(*sys.modules)"
    modules = set(subprocess.check_output([sys.executable, "-c", code], cwd=ROOT, text=True).split())
    assert not modules & {"torch", "sentence_transformers", "datasets", "matplotlib", "peft", "trl"}
