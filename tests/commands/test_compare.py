"""Runs compared: two question by question, several over seeds or against a parameter."""

import hashlib
import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import Repository
from dvc.repo import Repo

from medcards import InputError
from medcards.__main__ import main
from medcards.answers.runs import COMPARED_SCORES, compare_runs
from medcards.commands import compare


def scores(questions=range(30), **systems: float) -> pd.DataFrame:
    """Scores around one value per system, alternately 0.1 higher and lower. Each question is a group."""
    ids = np.array(questions)
    rows = [
        pd.DataFrame({"system": name, "card_id": ids.astype(str), "group": ids, "split": "validation"}).assign(
            **dict.fromkeys(COMPARED_SCORES, value + 0.1 * (-1.0) ** ids)
        )
        for name, value in systems.items()
    ]
    return pd.concat(rows)


def test_differences_are_paired_by_question():
    """The rows of the second run have another order, and one question is better by 0.3."""
    before, after = scores(lora=0.2, base=0.1), scores(lora=0.2, base=0.1)
    after.loc[(after.system == "lora") & (after.card_id == "7"), "sound_f1"] += 0.3
    found, remarks = compare_runs(before, after.sample(frac=1, random_state=0), seed=0)
    assert list(found) == ["lora"] and remarks == ["The scores are equal for: base."]
    assert found["lora"]["sound_f1"]["mean"] == pytest.approx(0.3 / 30)
    assert found["lora"]["sound_f1"]["n"] == 30 and found["lora"]["token_f1"]["mean"] == 0


def test_holm_corrects_all_systems_of_a_score():
    found, _ = compare_runs(scores(lora=0.2, base=0.1), scores(lora=0.3, base=0.2), seed=0)
    for system in ("lora", "base"):
        assert found[system]["sound_f1"]["lo"] == pytest.approx(0.1)
        assert found[system]["sound_f1"]["p_holm"] == pytest.approx(2 * found[system]["sound_f1"]["p"])


def test_remarks_name_what_the_runs_do_not_share():
    before, after = scores(range(20), lora=0.2, echo=0.0), scores(range(10, 30), lora=0.3, base=0.1)
    after["group"] += 1
    found, remarks = compare_runs(before, after, seed=0)
    assert found["lora"]["sound_f1"]["n"] == 10
    assert remarks == [
        "The runs asked 20 and 20 questions; they share 10.",
        "The groups of near-duplicates differ; the intervals use those of the second run.",
        "Only one run asked: base, echo.",
    ]


def test_a_score_of_one_run_only_is_left_out():
    before, after = scores(lora=0.2), scores(lora=0.3)
    before["nll"] = np.nan
    found, _ = compare_runs(before, after, seed=0)
    assert set(found["lora"]) == set(COMPARED_SCORES) - {"nll"}


def test_similarities_that_differ_by_rounding_are_equal():
    """Only the encoder was adapted: echo answers alike, and its similarity differs in the last digits."""
    before, after = scores(echo=0.2, search_open=0.3), scores(echo=0.2, search_open=0.6)
    after.loc[after.system == "echo", "similarity"] += 1e-7
    differences, remarks = compare_runs(before, after, seed=0)
    assert list(differences) == ["search_open"] and remarks == ["The scores are equal for: echo."]


def test_runs_without_a_shared_question_are_refused():
    with pytest.raises(InputError, match="the runs share no question"):
        compare_runs(scores(range(10), lora=0.2), scores(range(10, 20), lora=0.2), seed=0)


GAINS = [0.1, 0.6, 0.2, 0.5, 0.3, 0.4, -0.2, -0.4, 0.0, 0.0, 0.0, 0.0]
"""What lora wins in each question's sound F1. The questions 0 to 5 are won, and 6 and 7 are lost."""
LONG = 30 * "swelling "


def write_run(folder: Path, name: str, gains: list[float], texts: dict[int, str]) -> None:
    """The outputs of a run: sound F1 of 0.4 plus the gain for lora, and 0.2 for base. The texts are those of lora."""
    questions = range(len(gains))
    run = pd.concat([scores(questions, lora=0.4), scores(questions, base=0.2)])
    run["sound_f1"] = [0.4 + gain for gain in gains] + [0.2] * len(gains)
    rows = [
        {
            "card_id": str(number),
            "question": f"What is sign {number}?",
            "reference": f"Sign {number}.",
            "answers": {"lora": texts.get(number, f"{name} {number}"), "base": "A sign."},
        }
        for number in questions
    ]
    for output in ("scores", "answers"):
        (folder / "data" / output).mkdir(parents=True, exist_ok=True)
    run.to_parquet(folder / "data/scores/scores.parquet")
    (folder / "data/answers/answers.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture(scope="module")
def two_runs(tmp_path_factory) -> Repository:
    """A repository with a run in its last commit, and another run in the working tree."""
    repository = Repository(tmp_path_factory.mktemp("two_runs"))
    repository.run("git", "init", "-q")
    repository.run("dvc", "init", "-q")
    (repository.folder / "params.yaml").write_text("seed: 1\n")
    write_run(repository.folder, "old", [0.0] * 12, {1: "", 7: "\x1b[31mred\nline"})
    repository.run("dvc", "add", "-q", "data/scores", "data/answers")
    repository.commit("first run")
    write_run(repository.folder, "new", GAINS, {1: LONG})
    repository.run("dvc", "add", "-q", "data/scores", "data/answers")
    return repository


@pytest.fixture
def compared(two_runs, capsys, monkeypatch) -> Callable[..., str]:
    """Runs ``python -m medcards compare HEAD`` with arguments there, in this process; the lines that it prints."""
    from medcards.__main__ import main

    def run(*arguments: str) -> str:
        monkeypatch.chdir(two_runs.folder)
        monkeypatch.setenv("COLUMNS", "100")
        main(["compare", "HEAD", *arguments])
        return capsys.readouterr().out

    return run


def test_the_questions_most_won_and_lost_are_listed(compared):
    """Those of lora, the system that differs. A long answer is cut, and no answer steers the terminal."""
    table, won, lost = (
        compared().partition("\nlora won ")[0],
        *compared().partition("\nlora won ")[2].split("\nlora lost "),
    )
    assert "| lora " in table and "The scores are equal for: base." in table
    assert won.startswith("6 questions by sound_f1. The 5 largest changes:\n\n 1. What is sign 1?\n")
    assert [line[4:] for line in won.splitlines() if "What is" in line] == [
        f"What is sign {number}?" for number in (1, 3, 5, 4, 2)
    ]
    assert lost == (
        "2 questions by sound_f1. The largest change comes first:\n"
        "\n"
        " 1. What is sign 7?\n"
        "    reference: Sign 7.\n"
        "    HEAD 0.400: [31mred line\n"
        "    the working tree 0.000: new 7\n"
        "\n"
        " 2. What is sign 6?\n"
        "    reference: Sign 6.\n"
        "    HEAD 0.400: old 6\n"
        "    the working tree 0.200: new 6\n"
    )
    first = won.split("\n\n")[1]
    assert "    HEAD 0.400: (the answer is empty)\n    the working tree 1.000: swelling swelling" in first
    assert first.count("swelling") == 22 and first.endswith("...") and max(map(len, first.splitlines())) <= 100


def test_the_questions_of_another_system_are_listed(compared):
    assert compared("--system", "base").endswith(
        "\n\nbase won no question by sound_f1.\n\nbase lost no question by sound_f1.\n"
    )


def test_a_system_of_one_run_only_cannot_be_listed(compared):
    with pytest.raises(
        SystemExit, match="^compare: --system lorra was not asked in both runs .asked in both: base, lora.$"
    ):
        compared("--system", "lorra")


def test_equal_runs_list_no_question(compared):
    assert compared("HEAD") == "HEAD minus HEAD:\n\nThe scores are equal for: lora, base.\n"


def test_answers_that_are_not_in_the_cache_are_one_remark(compared, two_runs):
    """The rest is printed. The cache lacks the answers of the last commit."""
    digest = two_runs.run("git", "show", "HEAD:data/answers.dvc").stdout.partition("md5: ")[2].split()[0]
    listing = two_runs.folder / ".dvc/cache/files/md5" / digest[:2] / digest[2:]
    assert hashlib.md5(listing.read_bytes()).hexdigest() + ".dir" == digest
    (file,) = json.loads(listing.read_text())
    (listing.parents[1] / file["md5"][:2] / file["md5"][2:]).unlink()
    said = compared()
    assert "| lora " in said and "The scores are equal for: base." in said
    assert said.endswith(
        "The questions that lora won and lost are not listed: HEAD: data/answers/answers.jsonl is not in DVC's cache; "
        "`dvc repro` there makes it.\n"
    )


def git(*words: str) -> None:
    subprocess.run(["git", "-c", "user.name=a", "-c", "user.email=a@example.org", *words], check=True)


def keep(tag: str, params: str, sound: float, split: str = "validation") -> None:
    """A run as git and DVC keep it, under a tag in the current folder."""
    Path("params.yaml").write_text(params)
    table = scores(range(20), lora=sound, base=0.1).assign(split=split)
    losses = pd.DataFrame({"group": range(10), "base": 3.0, "tuned": 3 - sound})
    for path, rows in ((compare.SCORES_FILE, table), (compare.LIKELIHOOD_FILE, losses)):
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        rows.to_parquet(path, index=False)
    with Repo() as repository:
        repository.add(["data/scores", "data/figures"])
    git("add", "-A")
    git("commit", "-qm", tag)
    git("tag", tag)


@pytest.fixture(scope="module")
def kept(tmp_path_factory) -> Path:
    """A repository with two seeds, a run with more cards, and a commit before any run."""
    folder = tmp_path_factory.mktemp("kept")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        git("init", "-q")
        Repo.init().close()
        git("commit", "-qm", "bare")
        git("tag", "bare")
        keep("s1", "seed: 1\nrows: {train_cards: 50}\n", 0.2)
        keep("s2", "seed: 2\nrows: {train_cards: 50}\n", 0.4)
        keep("asked", "seed: 1\nrows: {train_cards: 50}\n", 0.3, split="test")
        keep("more", "seed: 1\nrows: {train_cards: 800}\n", 0.5)
    return folder


@pytest.fixture
def said(kept, monkeypatch, capsys):
    monkeypatch.chdir(kept)

    def run(*arguments: str) -> str:
        main(["compare", *arguments])
        return capsys.readouterr().out

    return run


def test_two_runs_are_compared_by_question(said):
    out = said("s1", "s2")
    assert out.startswith("s2 minus s1:") and "| lora     | 0.200 [0.200, 0.200] |" in out
    assert "The scores are equal for: base." in out and "test questions" not in out
    assert said("s1").startswith("the working tree minus s1:")
    tested = "\nThese are test questions: choose nothing by them; answer.split=validation is for choosing.\n"
    assert tested in said("asked", "asked")


def test_seeds_are_compared_with_a_plot(said, tmp_path):
    out = said("--seeds", "s1", "s2", "--plot", str(tmp_path / "seeds.png"))
    assert out.startswith("all runs, seeds 1, 2: mean ± standard deviation (smallest to largest)\n")
    assert "| lora     | 0.300 ± 0.141 (0.200 to 0.400) |" in out
    assert "Differences within a run: 95% t interval over 2 seeds; p is corrected by Holm" in out
    assert "| lora-base    | 0.200 [-1.071, 1.471], p 0.295 |" in out  # 12.706 * 0.1 on each side
    assert out.endswith(f"drawn: {tmp_path / 'seeds.png'}\n") and (tmp_path / "seeds.csv").exists()


def test_a_curve_is_shown_with_a_plot(said, tmp_path):
    out = said("--curve", "rows.train_cards", "more", "s1", "--plot", str(tmp_path / "curve.png"))
    assert "| run   |   rows.train_cards |   validation NLL, tuned |                 lora |   lora_rag |" in out
    rows = [line.split()[1:8] for line in out.splitlines() if line.startswith(("| s1 ", "| more "))]
    assert rows == [
        ["s1", "|", "50", "|", "2.800", "[2.800,", "2.800]"],
        ["more", "|", "800", "|", "2.500", "[2.500,", "2.500]"],
    ]
    assert "test questions" not in out and "also differ" not in out
    assert (tmp_path / "curve.png").exists() and (tmp_path / "curve.csv").exists()
    assert "The runs also differ in: seed." in said("--curve", "rows.train_cards", "more", "s2")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["s1", "asked"], "compare: the first run answers validation questions and the second test questions"),
        (["--seeds", "s2", "asked"], "compare: some runs answer test questions and others validation questions"),
        (["s1", "s2", "more"], "compare: 3 runs: two are compared by question; more need --seeds or --curve"),
        (["s1", "--plot", "a.png"], "compare: --plot draws seeds or a curve: add --seeds or --curve"),
        (["--seeds", "s1", "s2", "--plot", "a.pdf"], "compare: --plot a.pdf: name a file that ends in .png"),
        (["--seeds", "s1", "nowhere"], "compare: nowhere: "),
        (["--seeds", "s1", "bare"], "compare: bare: params.yaml is not in DVC's cache; `dvc repro` there makes it"),
        (["--seeds", "s1"], "compare: all runs: a spread needs runs with two seeds or more, and this is the seed 1"),
    ],
)
def test_a_comparison_that_cannot_be_made_is_one_line(said, arguments, says):
    with pytest.raises(SystemExit) as error:
        said(*arguments)
    assert str(error.value).startswith(says) and "\n" not in str(error.value)
