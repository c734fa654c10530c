"""Two runs, compared question by question."""

import numpy as np
import pandas as pd
import pytest

from medcards import InputError
from medcards.commands.compare import SHOWN, compare


def scores(questions=range(30), **systems: float) -> pd.DataFrame:
    """Scores of one value each, alternately 0.1 more and less; a question is a group of its own."""
    ids = np.array(questions)
    rows = [
        pd.DataFrame({"system": name, "card_id": ids.astype(str), "group": ids}).assign(
            **{score: value + 0.1 * (-1.0) ** ids for score in SHOWN}
        )
        for name, value in systems.items()
    ]
    return pd.concat(rows)


def test_differences_are_of_the_same_question():
    """The second's rows come in another order, and one question is better by 0.3."""
    before, after = scores(lora=0.2, base=0.1), scores(lora=0.2, base=0.1)
    after.loc[(after.system == "lora") & (after.card_id == "7"), "sound_f1"] += 0.3
    found, remarks = compare(before, after.sample(frac=1, random_state=0), seed=0)
    assert list(found) == ["lora"] and remarks == ["Equal in both: base."]
    assert found["lora"]["sound_f1"]["mean"] == pytest.approx(0.3 / 30)
    assert found["lora"]["sound_f1"]["n"] == 30 and found["lora"]["token_f1"]["mean"] == 0


def test_all_systems_of_a_score_are_corrected_together():
    found, _ = compare(scores(lora=0.2, base=0.1), scores(lora=0.3, base=0.2), seed=0)
    for system in ("lora", "base"):
        assert found[system]["sound_f1"]["lo"] == pytest.approx(0.1)
        assert found[system]["sound_f1"]["p_holm"] == pytest.approx(2 * found[system]["sound_f1"]["p"])


def test_what_is_not_in_both_is_said():
    before, after = scores(range(20), lora=0.2, echo=0.0), scores(range(10, 30), lora=0.3, base=0.1)
    after["group"] += 1
    found, remarks = compare(before, after, seed=0)
    assert found["lora"]["sound_f1"]["n"] == 10
    assert remarks == [
        "Of 20 and 20 questions the 10 that are in both count.",
        "The groups of near-duplicates differ, so their splits do; resampled are the second's.",
        "Asked in one of them only: base, echo.",
    ]


def test_a_score_that_only_one_has_is_left_out():
    before, after = scores(lora=0.2), scores(lora=0.3)
    before["nll"] = np.nan
    found, _ = compare(before, after, seed=0)
    assert set(found["lora"]) == set(SHOWN) - {"nll"}


def test_other_questions_cannot_be_compared():
    with pytest.raises(InputError, match="no question was asked in both"):
        compare(scores(range(10), lora=0.2), scores(range(10, 20), lora=0.2), seed=0)
