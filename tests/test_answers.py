"""Nobody can be fooled: what the summary and the warnings say of systems that only look as if they answered."""

from concurrent.futures import Future
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from medcards import InputError
from medcards.answers.asker import OTHER_DECK
from medcards.answers.comparison import (
    HEADLINE,
    KINDS,
    best,
    by_similarity,
    differences,
    far_from_training,
    pairs,
    slices,
    summarise,
    systems_of,
)
from medcards.answers.contradictions import KINDS as CONTRADICTIONS
from medcards.answers.scores import TermWeights, score_answers
from medcards.answers.systems import SYSTEMS, EvaluateParams, best_constant
from medcards.base.stats import Bootstrap
from medcards.report.answers import answer_tables, answers_to_read, closer_table, quantisation, warnings
from medcards.report.page import respond

SIDES = ("left", "right")
CARDS = pd.DataFrame(
    {
        "question": [f"What is finding {number}?" for number in range(20)],
        "answer": [
            f"Swelling of the {SIDES[number % 2]} {organ} with fever, seen {when} birth"
            for number, (organ, when) in enumerate(
                (organ, when) for organ in ("kidney", "lung", "knee", "eye", "ear") for when in "1234"
            )
        ],
        "group": range(20),
    }
)
LONGEST = " ".join(f"word{number}" for number in range(80)) + " swelling fever"
ANSWERS = {
    "base": ["It is a kind of fever that people have"] * 20,
    "lora": [f"Swelling of the {SIDES[number % 2]} kidney of the child" for number in range(20)],
    "repeats": CARDS.question.tolist(),
    "longest": [LONGEST] * 20,
    "empty": [""] * 20,
    "swaps": [text.replace(*(SIDES if "left" in text else SIDES[::-1])) for text in CARDS.answer],
}


@pytest.fixture(scope="module")
def scores() -> dict[str, pd.DataFrame]:
    weights = TermWeights(CARDS.answer)
    return {name: score_answers(texts, CARDS.answer, CARDS.question, weights) for name, texts in ANSWERS.items()}


@pytest.fixture(scope="module")
def qa(scores) -> dict:
    bootstrap = Bootstrap(CARDS.group, seed=0)
    summary = summarise(scores, bootstrap)
    summary["differences"] = differences(scores, bootstrap, pairs(summary))
    similarity = np.linspace(0.5, 1, 20)
    summary["far_from_training"] = far_from_training(scores, similarity, CARDS.group, seed=0)
    return summary


@pytest.mark.parametrize(
    ("system", "says"),
    [
        ("repeats", "repeats the question"),
        ("longest", "is long-winded"),
        ("empty", "gives no answer to 100% of the questions"),
        ("swaps", "swaps sides: where the reference names one, 100%"),
    ],
)
def test_who_fools_is_named_and_does_not_outrank(qa, system, says):
    said = warnings(qa, leaked=0.0)
    assert any(line.startswith(f"`{system}` ") and says in line for line in said)
    assert not any("`lora`" in line or "`base`" in line for line in said)
    assert qa[system][HEADLINE]["mean"] <= qa["base"][HEADLINE]["mean"] < qa["lora"][HEADLINE]["mean"]


def test_token_f1_alone_would_have_been_fooled(qa):
    """Which is why it is not what systems are ranked by."""
    assert qa["swaps"]["token_f1"]["mean"] > 0.8
    assert qa["repeats"]["token_f1"]["mean"] == 0 and qa["swaps"]["novel_f1"]["mean"] > 0.8


def test_other_warnings(qa):
    cut = {name: block for name, block in qa.items()}
    cut["lora"] = qa["lora"] | {"truncated": {"mean": 0.5, "lo": 0.4, "hi": 0.6, "n": 20}}
    said = " ".join(warnings(cut, leaked=0.2))
    assert "Small sample: 20 questions" in said and "Leak: 20.0% of the test questions" in said
    assert "`lora`: 50% of its answers were cut off" in said


def test_every_system_has_a_heading_and_every_kind_of_contradiction_a_score(scores):
    assert {name for names in KINDS.values() for name in names} == set(SYSTEMS)
    assert {f"contradiction_{kind}" for kind in CONTRADICTIONS} < set(scores["base"].columns)


def test_claims_are_made_against_what_knows_nothing(qa):
    """The pairs: what tuning and reading changed, and tuning and the best that learned against every baseline."""
    asked = dict.fromkeys(("base", "lora", "lora_rag", "echo", "constant"), {HEADLINE: {"mean": 0.1}})
    asked["lora_rag"] = {HEADLINE: {"mean": 0.2}}
    expected = {("lora", "base"), ("lora_rag", "lora"), ("lora", "echo"), ("lora", "constant")}
    assert set(pairs(asked)) == expected | {("lora_rag", "echo"), ("lora_rag", "constant")}
    assert list(qa["differences"]) == ["lora-base"]  # of those that were asked here


def test_differences_are_paired_and_corrected_together(scores):
    found = differences(scores, Bootstrap(CARDS.group, 0), [("lora", "base"), ("empty", "base")])
    for pair in ("lora-base", "empty-base"):
        a, b = pair.split("-")
        assert found[pair]["novel_f1"]["mean"] == pytest.approx((scores[a].novel_f1 - scores[b].novel_f1).mean())
        assert found[pair]["novel_f1"]["p_holm"] >= found[pair]["novel_f1"]["p"]


def test_the_best_is_best_by_the_headline_score(qa):
    assert best(qa, ("base", "lora", "absent")) == "lora"
    assert best(qa, ("absent",)) is None
    with pytest.raises(InputError, match="ask more questions"):
        best({"base": {}}, ("base",))


def test_questions_with_a_near_copy_in_training_are_left_out(scores):
    far = far_from_training(scores, np.array([0.95] * 15 + [0.5] * 5), CARDS.group, seed=0)
    assert far["lora"]["token_f1"]["n"] == 5
    assert far["lora"]["token_f1"]["mean"] == pytest.approx(scores["lora"].token_f1[15:].mean())
    assert far_from_training(scores, np.ones(20), CARDS.group, seed=0) == {}


def test_scores_by_similarity_have_bins_of_like_sizes(scores):
    similarity = np.arange(20)[::-1] / 20
    table = by_similarity(scores, similarity, CARDS.group, seed=0)
    of = table[(table.system == "lora") & (table.score == "token_f1")]
    assert of.n.tolist() == [5] * 4 and of.similarity.is_monotonic_increasing
    assert of["mean"].iloc[0] == pytest.approx(scores["lora"].token_f1[15:].mean())


def test_slices():
    asked = CARDS.assign(card_id=CARDS.index.astype(str), reference=CARDS.answer, cluster=["a"] * 16 + ["b"] * 4)
    table = pd.DataFrame(
        {"card_id": asked.card_id, "group": asked.group, "system": "lora", HEADLINE: np.arange(20) / 20}
    )
    found = slices(asked, table, seed=0).set_index(["by", "slice"])
    assert found.loc[("question begins", "what is"), "n"] == 20
    assert found.loc[("cluster", "a"), "mean"] == pytest.approx(np.arange(16).mean() / 20)
    assert ("cluster", "b") not in found.index  # four questions say nothing
    assert [name for by, name in found.index if by == "reference length"] == [
        f"quartile {part}" for part in range(1, 5)
    ]


def test_the_report_shows_new_systems_last_and_every_answer(qa):
    text = answer_tables(qa)
    assert text.index("Closed book") < text.index("Others") < text.index("| empty |")
    assert list(systems_of(qa))[:2] == ["base", "lora"] and "| swaps |" in closer_table(qa)
    predictions = CARDS.assign(card_id=CARDS.index.astype(str), reference=CARDS.answer)
    predictions["answers"] = [{"lora": "<b>bold</b> | *answer*"}] * 20
    predictions["read"] = [{"lora_rag": ["a card"]}] * 20
    table = pd.DataFrame({"card_id": predictions.card_id, "system": "lora", HEADLINE: np.arange(20) / 20})
    shown = answers_to_read(predictions, table, "lora", count=1)
    assert "What is finding 19?" in shown.split("Worst")[0] and "What is finding 0?" in shown.split("Worst")[1]
    assert "&lt;b>bold" in shown and "card to read 1: a card" in shown


def test_the_report_says_what_quantising_costs():
    interval = {"mean": 0.5, "lo": 0.4, "hi": 0.6, "n": 7}
    scores = dict.fromkeys(("nll", "token_f1", "novel_f1", HEADLINE), interval)
    found = {
        "nf4": scores | {"base_bytes": 1e8},
        "none": scores | {"base_bytes": 5e8},
        "differences": {"nf4-none": scores},
    }
    text = quantisation(found, "pypi:a@1/model.gguf@sha256:0")
    assert text.index("| none | 500 |") < text.index("| nf4 | 100 |") < text.index("| nf4-none |")
    assert "n = 7" in text and "de-quantised" in text and "de-quantised" not in quantisation(found, "path:models/llm/a")
    assert quantisation({}, "") == ""


def test_the_best_constant():
    """Token F1 against the others: of the first 0.8 and 0, of the third 0.8 and 0, so the first in order is taken."""
    answers = pd.Series(["a cyst of kidney", "pain", "kidney cyst", "the cyst"])
    mean = {"a cyst of kidney": (0 + 4 / 5 + 2 / 4) / 3, "kidney cyst": (4 / 5 + 0 + 2 / 3) / 3}
    assert mean["kidney cyst"] > mean["a cyst of kidney"]
    assert best_constant(answers, seed=0) == "kidney cyst"


def test_an_unknown_system_is_refused_by_name():
    sizes = dict.fromkeys(("questions", "max_new_tokens", "batch_size", "context_cards"), 1)
    with pytest.raises(ValueError, match="lora_rga is no answering system; known: echo, constant"):
        EvaluateParams(systems=["echo", "lora_rga"], **sizes)
    assert EvaluateParams(systems=["echo", "echo"], **sizes).systems == ["echo"]


def test_the_page_says_that_an_adapter_is_another_decks():
    """Where it answers; the base model has none."""
    asker = SimpleNamespace(tuned=True, remark=OTHER_DECK)
    asker.find, asker.answer = lambda *_: [], lambda *_, base: iter(["A", "A cyst."])
    loading: Future = Future()
    loading.set_result(asker)
    *_, last = respond(loading, "What is it?", ["tuned"], 3, "all")
    assert last[0] == f"Done. {OTHER_DECK}" and last[2:] == ("A cyst.", "")
    *_, last = respond(loading, "What is it?", ["base"], 3, "all")
    assert last[0] == "Done." and last[2:] == ("", "A cyst.")
