"""Citations as small models write them, and as they are served."""

import pytest

from medcards.llm.citations import cite, split_citation


@pytest.mark.parametrize(
    ("text", "number", "answer"),
    [
        ("[2] An arthritis.", 2, "An arthritis."),
        ("[2]An arthritis.", 2, "An arthritis."),
        ("  [ 2 ]\nAn arthritis.", 2, "An arthritis."),
        ("[2]: An arthritis.", 2, "An arthritis."),
        ("[2]. An arthritis.", 2, "An arthritis."),
        ("[2] - An arthritis.", 2, "An arthritis."),
        ("[2], [3] An arthritis.", 2, "An arthritis."),
        ("[3][1] and [2] An arthritis.", 3, "An arthritis."),
        ("[1, 2] An arthritis.", 1, "An arthritis."),
        ("[2] and a fever", 2, "and a fever"),
        ("[2] -5 to 3 mmol", 2, "-5 to 3 mmol"),
        ("[2] .5 mg", 2, ".5 mg"),
        ("[2] Seen in [3] and [1].", 2, "Seen in [3] and [1]."),
        ("[2]", 2, ""),
    ],
)
def test_a_citation_is_split_off(text, number, answer):
    assert split_citation(text, cards=3) == (number, answer)


@pytest.mark.parametrize(
    "text",
    ["", "An arthritis.", "An arthritis [3] of joints.", "[0] No.", "[4] No.", "[4], [1] No.", "[-1] No.", "(2) No."]
    + ["[two] No.", "[2 No.", "2] No.", "[1234567] No."],
)
def test_other_numbers_are_text(text):
    assert split_citation(text, cards=3) == (None, text)
    assert split_citation(f"[1] {text}", cards=0) == (None, f"[1] {text}")


def test_what_is_cited_is_split_again():
    for number in (1, 12, 50):
        assert split_citation(cite(number, "An arthritis."), cards=50) == (number, "An arthritis.")
    assert cite(0, "An arthritis.") == cite(None, "An arthritis.") == "An arthritis."
