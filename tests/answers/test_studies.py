"""Runs that differ in the seed, and curves against a parameter. Expected values were worked out by hand."""

import numpy as np
import pandas as pd
import pytest

from medcards import InputError
from medcards.answers.runs import COMPARED_SCORES
from medcards.answers.studies import Run, compare_seeds, flat_params, scaling_curve, split_remark
from medcards.base.stats import t_interval
from medcards.report import study_plots

SPREAD_OF_TWO = 0.1
"""Half of the distance between a system's two questions, whose mean is the system's score."""


def a_run(name: str, params: dict, likelihood: float = 2.0, **systems: float) -> Run:
    """A run of two questions, which are its own, and as many validation cards. Every score of a system is its value."""
    rows = [
        {"system": system, "card_id": f"{name}{place}", "group": place}
        | dict.fromkeys(COMPARED_SCORES, value + side * SPREAD_OF_TWO)
        for system, value in systems.items()
        for place, side in enumerate((-1, 1))
    ]
    scores = pd.DataFrame(rows)
    scores.loc[scores.system == "echo", "nll"] = np.nan
    losses = pd.DataFrame({"group": [1, 2], "base": 3.0, "tuned": [likelihood - 0.5, likelihood + 0.5]})
    return Run(name, {"seed": 1, "lora.r": 16, "rows.train_cards": 400} | params, scores, losses)


def seeds(values: list[float], base: float = 0.1, prefix: str = "s", **params) -> list[Run]:
    """Runs with the seeds 1, 2, ... whose tuned model has these scores."""
    return [
        a_run(f"{prefix}{seed}", {"seed": seed} | params, lora=value, base=base, echo=0.0)
        for seed, value in enumerate(values, start=1)
    ]


def test_flat_params_reads_yaml_1_2():
    text = "seed: 7\nfinetune:\n  learning_rate: 1e-05\nanswer:\n  systems: [echo, base]\n"
    params = flat_params(text, "HEAD")
    assert params == {"seed": 7, "finetune.learning_rate": 1e-5, "answer.systems": ["echo", "base"]}
    with pytest.raises(InputError, match="^r16: params.yaml has no seed$"):
        flat_params("lora: {r: 16}", "r16")
    for text in ("- a\n", "a: [\n"):
        with pytest.raises(InputError, match="^r16: params.yaml is not valid: "):
            flat_params(text, "r16")


def test_one_group_has_mean_spread_and_t_intervals_of_differences_within_a_run():
    """lora - base is 0.1, 0.2, 0.3: mean 0.2, standard error 0.1 / sqrt(3), t quantile of 2 degrees 4.303."""
    study = compare_seeds(seeds([0.2, 0.3, 0.4]))
    (group, systems), *others = study.groups.items()
    assert group == "all runs" and not others and not study.remarks
    lora = systems["lora"]["sound_f1"]
    assert lora == pytest.approx({"mean": 0.3, "sd": 0.1, "smallest": 0.2, "largest": 0.4, "n": 3})
    assert "nll" not in systems["echo"] and systems["base"]["nll"]["sd"] == pytest.approx(0)
    assert study.compared == "Differences within a run: 95% t interval over 3 seeds"
    assert list(study.differences) == ["lora-base", "base-echo", "lora-echo"]
    found = study.differences["lora-base"]["sound_f1"]
    half = 4.3027 * 0.1 / np.sqrt(3)
    assert (found["lo"], found["mean"], found["hi"]) == pytest.approx((0.2 - half, 0.2, 0.2 + half), abs=1e-4)
    assert found["p"] == pytest.approx(0.0742, abs=1e-4) and found["n"] == 3
    assert "nll" in study.differences["lora-base"] and "nll" not in study.differences["lora-echo"]


def test_one_group_corrects_for_all_pairs():
    """lora-echo has the smallest of the three p values."""
    values = zip((0.50, 0.52, 0.54), (0.1, 0.3, 0.2), strict=True)
    runs = [a_run(f"s{n}", {"seed": n}, lora=lora, base=base, echo=0.0) for n, (lora, base) in enumerate(values)]
    study = compare_seeds(runs)
    found = study.differences["lora-echo"]["sound_f1"]
    assert found["p_holm"] == pytest.approx(3 * found["p"])


def test_two_groups_are_paired_by_seed():
    """r=32 minus r=16 is 0.01, 0.02, 0.03, with 3 in common; 0.9 of the fourth seed is left out."""
    runs = seeds([0.2, 0.5, 0.8]) + seeds([0.21, 0.52, 0.83, 0.9], prefix="r", **{"lora.r": 32})
    study = compare_seeds(runs)
    assert list(study.groups) == ["lora.r=16", "lora.r=32"]
    assert study.groups["lora.r=32"]["lora"]["sound_f1"]["n"] == 4
    assert study.compared == "lora.r=32 minus lora.r=16: 95% paired t interval over 3 seeds"
    found = study.differences["lora"]["sound_f1"]
    half = 4.3027 * 0.01 / np.sqrt(3)
    assert (found["mean"], found["hi"] - found["mean"]) == pytest.approx((0.02, half), abs=1e-5)
    assert found["p"] == pytest.approx(0.0742, abs=1e-4) == found["p_holm"]
    assert study.remarks == [
        "Only one group has the seeds 4; the differences leave them out.",
        "The scores are equal for: base, echo.",
    ]


def test_groups_without_common_seeds_are_compared_by_welch():
    """Means 0.3 and 0.6, variances 0.01 and 0.04: standard error sqrt(0.05 / 3), 2.94 degrees of freedom."""
    later = zip((7, 8, 9), (0.4, 0.6, 0.8), strict=True)
    later = [a_run(f"t{seed}", {"seed": seed, "lora.r": 32}, lora=value) for seed, value in later]
    study = compare_seeds(seeds([0.2, 0.3, 0.4]) + later)
    assert study.compared == "lora.r=32 minus lora.r=16: Welch's 95% t interval over 3 and 3 seeds"
    found = study.differences["lora"]["sound_f1"]
    assert found["mean"] == pytest.approx(0.3)
    assert (found["hi"] - found["lo"]) / 2 == pytest.approx(3.2198 * np.sqrt(0.05 / 3), rel=1e-3)


def test_a_system_that_not_all_runs_asked_is_named():
    runs = seeds([0.2, 0.3])
    runs[1] = a_run("s2", {"seed": 2}, lora=0.3, base=0.1, copy_nearest=0.2)
    study = compare_seeds(runs)
    assert list(study.groups["all runs"]) == ["lora", "base"]
    assert study.remarks == ["Not all runs asked: echo, copy_nearest."]
    runs[1] = a_run("s2", {"seed": 2}, oracle=0.3)
    with pytest.raises(InputError, match=r"^no answering system is in all runs: their answer\.systems differ$"):
        compare_seeds(runs)


@pytest.mark.parametrize(
    ("runs", "says"),
    [
        (seeds([0.2]), "all runs: a spread needs runs with two seeds or more, and this is the seed 1"),
        (
            seeds([0.2, 0.3]) + seeds([0.4], prefix="r", **{"lora.r": 32}),
            "lora.r=32: a spread needs runs with two seeds or more, and this is the seed 1",
        ),
        (
            seeds([0.2, 0.3]) + seeds([0.4], prefix="again"),
            "s1 and again1 have the seed 1 and equal parameters, so they are one run: name one of them",
        ),
        (
            [run for rank in (8, 16, 32) for run in seeds([0.2, 0.3], prefix=f"r{rank}s", **{"lora.r": rank})],
            "the runs have 3 sets of parameters: name runs of one or two (lora.r=8; lora.r=16; lora.r=32)",
        ),
    ],
)
def test_runs_that_give_no_spread_are_refused(runs, says):
    with pytest.raises(InputError) as error:
        compare_seeds(runs)
    assert str(error.value) == says


def test_groups_name_a_parameter_that_one_run_lacks():
    newer = seeds([0.3, 0.4], prefix="n", **{"answer.split": "test"})
    assert list(compare_seeds(seeds([0.2, 0.3]) + newer).groups) == ["answer.split=(absent)", "answer.split=test"]


def test_a_constant_difference_has_no_interval_to_compute():
    assert t_interval([0.0, 0.0]) == {"mean": 0.0, "n": 2, "p": 1.0}
    assert t_interval([0.5, 0.5], [0.25, 0.25, 0.25])["p"] == 1  # two equal values show no spread to test with
    assert t_interval([0.3 - 0.2, 0.4 - 0.3])["p"] == 1  # equal but for rounding


def cards(*counts: int, **also) -> list[Run]:
    return [
        a_run(f"c{count}", {"rows.train_cards": count} | also, likelihood=3 - count / 1000, lora=count / 1000, base=0.1)
        for count in counts
    ]


def test_a_curve_is_in_the_order_of_the_parameter_with_bootstrap_intervals():
    """Two groups, one below and one above the mean: every fourth resample draws only the one or only the other."""
    curve, remarks = scaling_curve(cards(200, 50, 800), "rows.train_cards")
    assert remarks == []
    assert curve.columns.tolist() == ["parameter", "run", "score", "mean", "lo", "hi", "n"]
    assert curve.parameter.tolist() == [50, 50, 200, 200, 800, 800] and curve.run.iloc[-1] == "c800"
    assert curve.score.tolist() == ["validation NLL, tuned", "lora"] * 3  # lora_rag was not asked
    loss, score = curve.iloc[-2], curve.iloc[-1]
    assert (loss["mean"], loss.lo, loss.hi, loss.n) == pytest.approx((2.2, 1.7, 2.7, 2))
    assert (score["mean"], score.lo, score.hi, score.n) == pytest.approx((0.8, 0.7, 0.9, 2))


def test_a_curve_names_what_else_differs():
    runs = cards(50) + cards(100, **{"lora.r": 32, "seed": 2})
    assert scaling_curve(runs, "rows.train_cards")[1] == ["The runs also differ in: lora.r, seed."]


@pytest.mark.parametrize(
    ("runs", "parameter", "says"),
    [
        (
            cards(50, 100),
            "rows.train_card",
            "c50 has no parameter rows.train_card: write its full name, as in rows.train_cards",
        ),
        (
            cards(50, **{"llm.quantize": "nf4"}) + cards(100),
            "llm.quantize",
            "c50: llm.quantize is 'nf4' in its params.yaml, and a curve needs a number",
        ),
        (cards(50, a=True), "a", "c50: a is True in its params.yaml, and a curve needs a number"),
        (
            cards(50) + cards(50, seed=2),
            "rows.train_cards",
            "all runs have rows.train_cards=50: name runs that differ in it",
        ),
    ],
)
def test_runs_that_make_no_curve_are_refused(runs, parameter, says):
    with pytest.raises(InputError) as error:
        scaling_curve(runs, parameter)
    assert str(error.value) == says


def test_test_questions_are_remarked_on():
    scores = seeds([0.2])[0].scores
    assert split_remark([scores.assign(split="validation")]) == []
    assert len(split_remark([scores])) == 1  # before there was a split, all answers were to test questions
    (remark,) = split_remark([scores, scores.assign(split="test")])
    assert remark == "These are test questions: choose nothing by them; answer.split=validation is for choosing."


@pytest.fixture
def drawn(monkeypatch) -> list:
    """The figures that are saved, still open."""
    figures, usual = [], study_plots.save_figure
    monkeypatch.setattr(study_plots, "save_figure", lambda *given: (figures.append(given[0]), usual(*given)))
    return figures


def test_the_plot_of_seeds_has_a_point_per_seed_and_their_mean(tmp_path, drawn):
    runs = seeds([0.2, 0.3]) + seeds([0.3, 0.5], prefix="r", **{"lora.r": 32})
    study_plots.plot_seeds(compare_seeds(runs).points, tmp_path / "seeds.png")
    data = pd.read_csv(tmp_path / "seeds.csv")
    assert data.columns.tolist() == ["group", "run", "seed", "system", "score", "value"]
    assert len(data) == 4 * (2 * 5 + 4) and (tmp_path / "seeds.png").exists()  # echo has no nll
    sound, nll = drawn[0].axes
    assert [len(dots.get_offsets()) for dots in sound.collections] == [6, 3, 6, 3]
    assert "one point per seed, bar: mean" in sound.get_ylabel() and "nats" in nll.get_ylabel()
    assert max(sound.collections[3].get_offsets()[:, 1]) == pytest.approx(0.4)


def test_the_axis_of_a_curve_is_logarithmic_where_it_is_wide(tmp_path, drawn):
    for counts in ((50, 800), (400, 800), (0, 800)):
        curve, _ = scaling_curve(cards(*counts), "rows.train_cards")
        study_plots.plot_curve(curve, "rows.train_cards", tmp_path / "curve.png")
    assert [figure.axes[0].get_xscale() for figure in drawn] == ["log", "linear", "linear"]
    loss, score = drawn[0].axes
    assert loss.get_xlabel() == "rows.train_cards" and loss.get_ylabel().endswith("95% interval")
    assert [text.get_text() for text in score.get_xticklabels()] == ["50", "800"]
    assert pd.read_csv(tmp_path / "curve.csv").columns.tolist()[:3] == ["parameter", "run", "score"]
