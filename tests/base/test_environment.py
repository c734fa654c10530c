"""The pinned environment, and the modules that a start of the code imports."""

import ast
import os
import platform
import re
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import pytest
from conftest import ROOT
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tools.constraints import REQUIREMENTS

POSIX_ONLY = {"fcntl", "grp", "posix", "pty", "pwd", "readline", "resource", "syslog", "termios", "tty"}
"""Modules of the standard library that Windows lacks. macOS has them."""
OF_A_GPU_BUILD = re.compile(r"nvidia-|cuda-|triton$")
"""Packages that PyTorch's builds for GPUs bring, at versions that PyTorch pins itself."""


def requirements(file: str) -> list[Requirement]:
    """The requirements of a file, without comments."""
    lines = [line.split("#")[0].strip() for line in (ROOT / file).read_text().splitlines()]
    return [Requirement(line) for line in lines if line]


PINS = {canonicalize_name(pin.name): str(pin.specifier).removeprefix("==") for pin in requirements("constraints.txt")}


def installed(roots: list[Requirement]) -> dict[str, str]:
    """Name and version of the packages that requirements pull in here, as far as they are installed."""
    found, seen, queue = {}, set(), list(roots)
    while queue:
        wanted = queue.pop()
        key = canonicalize_name(wanted.name), frozenset(wanted.extras)
        if key in seen:
            continue
        seen.add(key)
        try:
            package = distribution(wanted.name)
        except PackageNotFoundError:  # of requirements-extra.txt or -scale.txt, which need not be installed
            continue
        found[key[0]] = package.version.split("+")[0]
        pulled = [Requirement(line) for line in package.requires or []]
        extras = [{"extra": extra} for extra in ("", *wanted.extras)]
        queue += [r for r in pulled if r.marker is None or any(r.marker.evaluate(extra) for extra in extras)]
    return found


@pytest.mark.skipif(
    (sys.platform, platform.machine(), sys.version_info[:2]) != ("linux", "x86_64", (3, 11)),
    reason="constraints.txt names the packages of Python 3.11 on Linux, x86-64",
)
def test_constraints_are_the_packages_that_the_requirements_pull_in():
    found = installed([requirement for file in REQUIREMENTS for requirement in requirements(file)])
    found = {name: version for name, version in found.items() if name in PINS or not OF_A_GPU_BUILD.match(name)}
    assert {name: PINS.get(name) for name in found} == found
    if all(canonicalize_name(requirement.name) in found for file in REQUIREMENTS for requirement in requirements(file)):
        assert set(PINS) == set(found)


@pytest.mark.parametrize("file", REQUIREMENTS)
def test_requirements_are_pinned_as_in_the_constraints(file):
    for requirement in requirements(file):
        assert str(requirement.specifier) == f"=={PINS[canonicalize_name(requirement.name)]}", requirement


def test_constraints_name_no_build_path_or_host():
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    assert lines == sorted(lines, key=str.lower)
    for line in lines:
        assert re.fullmatch(r"[A-Za-z0-9._-]+==[0-9][A-Za-z0-9.]*", line), line


def test_each_requirement_is_listed_once():
    names = [canonicalize_name(requirement.name) for file in REQUIREMENTS for requirement in requirements(file)]
    assert len(names) == len(set(names))


def imported_at_start(file: Path) -> set[str]:
    """The top-level names of the modules that a file imports when it is imported, wherever they stand but in functions.

    >>> sorted(imported_at_start(Path(__file__)) & {"ast", "packaging", "resource"})
    ['ast', 'packaging']
    """
    names, queue = set(), list(ast.parse(file.read_text(encoding="utf-8")).body)
    while queue:
        node = queue.pop()
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names.add(node.module.split(".")[0])
        elif not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            queue += ast.iter_child_nodes(node)
    return names


@pytest.mark.parametrize("room", ["medcards", "stages", "tools"])
def test_nothing_imports_at_start_what_windows_lacks(room):
    files = sorted((ROOT / room).rglob("*.py"))
    assert files
    for file in files:
        assert not imported_at_start(file) & POSIX_ONLY, file.relative_to(ROOT)


COMMAND = Path(sys.executable).parent / "medcards"


@pytest.mark.skipif(not COMMAND.exists() and "CI" not in os.environ, reason="medcards is not installed: `make test`")
def test_the_installed_command_runs_from_anywhere(tmp_path):
    done = subprocess.run([COMMAND, "search", "--help"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.startswith("usage: medcards search "), done.stderr
    assert list(tmp_path.iterdir()) == []
