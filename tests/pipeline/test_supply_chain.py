"""Nothing that is read can run code: no pickle, no code of a model's repository, no action that can change."""

import ast
import re
import zipfile
from pathlib import Path

import pytest
import tiny
from conftest import ROOT

from medcards import InputError
from medcards.base.checkpoints import last_checkpoint
from medcards.base.files import write_hashes
from medcards.base.manifests import PICKLES, NamesModel, pin_model

SOURCES = sorted(file for room in ("medcards", "stages", "tools", "benchmarks") for file in (ROOT / room).rglob("*.py"))
READERS = {"pickle", "cPickle", "dill", "shelve", "marshal", "cloudpickle"}
"""Modules that read pickles."""
UNSAFE = {f"{library}.{what}" for library in ("torch", "joblib") for what in ("load", "save", "dump")}
OPTIONS = {"trust_remote_code": "False", "allow_pickle": "False", "weights_only": "True"}
"""The only safe value of each."""
BETWEEN_WORKERS = {"medcards/base/workers.py": {"cloudpickle", "ray.cloudpickle"}}
"""Ray sends objects between the processes of one run. Nothing of it is stored."""


def unsafe_calls(tree: ast.AST) -> list[str]:
    """The calls and imports of a module that read or write a pickle, or run code of a repository."""
    found, long_names = [], {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            long_names |= {alias.asname: alias.name for alias in node.names if alias.asname}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            module = getattr(node, "module", "") or ""
            names = {module, *(alias.name for alias in node.names), *(f"{module}.{alias.name}" for alias in node.names)}
            found += [name for name in sorted(names) if name.split(".")[0] in READERS or name in UNSAFE]
        if isinstance(node, ast.Call):
            first, dot, rest = ast.unparse(node.func).partition(".")
            name = long_names.get(first, first) + dot + rest
            options = {word.arg: ast.unparse(word.value) for word in node.keywords}
            if name in UNSAFE or getattr(node.func, "attr", "") in ("to_pickle", "read_pickle"):
                found.append(name)
            found += [f"{name}({word})" for word, safe in OPTIONS.items() if options.get(word, safe) != safe]
    return found


@pytest.mark.parametrize("source", SOURCES, ids=lambda file: str(file.relative_to(ROOT)))
def test_no_module_reads_a_pickle_or_trusts_remote_code(source):
    allowed = BETWEEN_WORKERS.get(source.relative_to(ROOT).as_posix(), set())
    assert set(unsafe_calls(ast.parse(source.read_text(encoding="utf-8")))) <= allowed


def test_the_scan_finds_what_it_looks_for():
    code = {
        "import pickle": ["pickle"],
        "from cloudpickle import loads": ["cloudpickle", "cloudpickle.loads"],
        "from torch import load": ["torch.load"],
        "torch.load(f)": ["torch.load"],
        "np.load(f, allow_pickle=True)": ["np.load(allow_pickle)"],
        "make(trust_remote_code=True)": ["make(trust_remote_code)"],
        "make(trust_remote_code=trusted)": ["make(trust_remote_code)"],
        "read(f, weights_only=False)": ["read(weights_only)"],
        "import torch as t; t.load(f)": ["torch.load"],
        "table.to_pickle(f)": ["table.to_pickle"],
        "pandas.read_pickle(f)": ["pandas.read_pickle"],
        "np.load(f); make(trust_remote_code=False)": [],
    }
    assert {line: unsafe_calls(ast.parse(line)) for line in code} == code


@pytest.mark.slow
def test_no_output_of_the_pipeline_is_a_pickle(finished):
    files = [
        file for top in ("data", "metrics", "plots") for file in (finished.folder / top).rglob("*") if file.is_file()
    ]
    assert len(files) > 100
    for file in files:
        assert file.suffix not in PICKLES or file.name == "index.bin"  # hnswlib's format
        assert file.read_bytes()[:1] != b"\x80", file
        assert not zipfile.is_zipfile(file), file


@pytest.mark.parametrize("name", ["pytorch_model.bin", "2_Dense/weights.pt", "optimizer.pkl"])
def test_a_model_of_the_users_own_with_a_pickle_is_refused(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    folder = tiny.make_encoder(Path("models/encoder/mine"))
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_bytes(b"\x80\x04.")
    with pytest.raises(InputError, match=f"{Path(name).name} is a pickle, which can run code; save the model as"):
        pin_model(NamesModel(model="path:models/encoder/mine"), "encoder")


def test_training_resumes_from_its_own_whole_checkpoints_only(tmp_path):
    """Not from one of another origin, one that is incomplete, or one of which a file was changed."""
    for step in (5, 10, 15, 20):
        (tmp_path / f"checkpoint-{step}").mkdir()
        (tmp_path / f"checkpoint-{step}/optimizer.pt").write_bytes(b"state")
    assert last_checkpoint(tmp_path) is None
    for step in (5, 10, 15):
        write_hashes(tmp_path / f"checkpoint-{step}")
    assert last_checkpoint(tmp_path) == tmp_path / "checkpoint-15"
    (tmp_path / "checkpoint-15/optimizer.pt").write_bytes(b"other")
    assert last_checkpoint(tmp_path) == tmp_path / "checkpoint-10"
    (tmp_path / "checkpoint-10/optimizer.pt").unlink()
    assert last_checkpoint(tmp_path) == tmp_path / "checkpoint-5"


def test_actions_are_pinned_by_commit():
    used = [
        line for file in (ROOT / ".github").rglob("*.yml") for line in file.read_text().splitlines() if "uses:" in line
    ]
    assert used and all(re.search(r"uses: [\w-]+/[\w-]+@[0-9a-f]{40}  # v[\d.]+$", line) for line in used)
