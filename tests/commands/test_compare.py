"""The answers of two runs, compared question by question."""

import numpy as np
import pandas as pd
import pytest

from medcards import InputError
from medcards.answers.runs import COMPARED_SCORES, compare_runs


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
