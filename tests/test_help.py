"""Every program that the README or the documents name says what it does, with examples, before anything was run."""

import re
import subprocess
import sys

import pytest
from conftest import ROOT

TEXTS = [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]
NAMED = sorted({name for file in TEXTS for name in re.findall(r"python -m (medcards\.\w+)", file.read_text())})


@pytest.mark.parametrize("program", NAMED)
def test_help(program, tmp_path):
    command = [sys.executable, "-m", program, "--help"]
    done = subprocess.run(command, cwd=tmp_path, env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True)
    assert done.returncode == 0 and done.stderr == ""
    assert done.stdout.startswith(f"usage: python -m {program} [-h]")
    assert f"\n    python -m {program}" in done.stdout


def test_all_are_named():
    programs = {f"medcards.{file.stem}" for file in (ROOT / "medcards").glob("*.py") if "argparse" in file.read_text()}
    assert programs == set(NAMED)
