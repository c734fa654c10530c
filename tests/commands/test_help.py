"""python -m medcards: the list of commands, their help, and wrong arguments."""

import re
import subprocess
import sys

import pytest
from conftest import ROOT

from medcards.__main__ import COMMANDS

TEXTS = [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]
HEAVY = {
    "datasets",
    "gensim",
    "matplotlib",
    "onnxruntime",
    "pandas",
    "peft",
    "sentence_transformers",
    "sklearn",
    "torch",
    "transformers",
}


def medcards(*arguments: str, folder=ROOT) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "medcards", *arguments]
    return subprocess.run(command, cwd=folder, env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True)


def test_all_commands_are_listed(tmp_path):
    done = medcards(folder=tmp_path)
    assert done.returncode == 0 and done.stderr == ""
    assert re.findall(r"^    (\w+) +\S", done.stdout.partition("commands:")[2], re.MULTILINE) == list(COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_help_shows_an_example(command, tmp_path):
    done = medcards(command, "--help", folder=tmp_path)
    assert done.returncode == 0 and done.stderr == ""
    assert done.stdout.startswith(f"usage: python -m medcards {command} [-h]")
    assert f"\n    python -m medcards {command}" in done.stdout


def test_the_documents_name_every_command_and_no_other():
    named = {name for file in TEXTS for name in re.findall(r"python -m medcards (\w+)", file.read_text())}
    assert named == set(COMMANDS)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["serch"], "medcards: argument COMMAND: invalid choice: 'serch' (choose from 'check', 'search', "),
        (["ask"], "ask: the following arguments are required: question; see `python -m medcards ask --help`"),
        (["ask", "gout", "--model", "mine"], "ask: argument --model: invalid choice: 'mine'"),
        (["export", "--to", "exported/mine", "--dtype", "int8"], "export: argument --dtype: invalid choice: 'int8'"),
    ],
)
def test_a_wrong_argument_is_one_line(arguments, says):
    done = medcards(*arguments)
    assert done.returncode == 2 and done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith(says)


def test_help_imports_no_heavy_library():
    code = "import sys; from medcards.__main__ import build_parser; build_parser(); print(*sys.modules)"
    modules = set(subprocess.check_output([sys.executable, "-c", code], cwd=ROOT, text=True).split())
    assert not modules & HEAVY


def test_a_wrong_question_is_found_before_any_model_library_is_imported():
    code = (
        "import sys, atexit; atexit.register(lambda: print(*sys.modules)); from medcards.__main__ import main;"
        "main(['search', ' '])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1 and done.stderr == "search: the question is empty: ask something\n"
    assert not set(done.stdout.split()) & (HEAVY - {"pandas"})


def test_ask_offers_the_choices_of_the_asker():
    from medcards.__main__ import build_parser
    from medcards.answers.asker import MODELS, READ

    for option, choices in (("--model", MODELS), ("--read", READ)):
        for choice in choices:
            assert choice in vars(build_parser().parse_args(["ask", "gout", option, choice])).values()
        with pytest.raises(SystemExit):
            build_parser().parse_args(["ask", "gout", option, "other"])
