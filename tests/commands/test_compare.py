"""Runs compared: two question by question, several over seeds or against a parameter."""

import subprocess
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from dvc.repo import Repo

from medcards import InputError
from medcards.__main__ import main
from medcards.answers.runs import COMPARED_SCORES, compare_runs
from medcards.commands import compare


def scores(questions=range(30), **systems: float) -> pd.DataFrame:
    """Scores around one value per system, alternately 0.1 higher and lower. Each question is a group."""
    ids = np.array(questions)
    rows = [
        pd.DataFrame({"system": name, "card_id": ids.astype(str), "group": ids}).assign(
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


def test_runs_without_a_shared_question_are_refused():
    with pytest.raises(InputError, match="the runs share no question"):
        compare_runs(scores(range(10), lora=0.2), scores(range(10, 20), lora=0.2), seed=0)


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
        keep("more", "seed: 1\nrows: {train_cards: 800}\n", 0.5, split="test")
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
    assert "\nThese are test questions: choose nothing by them; answer.split=validation is for choosing.\n" in said(
        "s1"
    )
    assert said("s1").startswith("the working tree minus s1:")


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
    assert "These are test questions" in out and "also differ" not in out
    assert (tmp_path / "curve.png").exists() and (tmp_path / "curve.csv").exists()
    assert "The runs also differ in: seed." in said("--curve", "rows.train_cards", "more", "s2")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
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
