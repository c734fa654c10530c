"""Intervals, retrieval scores and answer scores. Expected values were worked out by hand."""

import math
import re
import string

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medcards import InputError
from medcards.answers.contradictions import contradictions, occasions
from medcards.answers.scores import (
    TermWeights,
    exact_match,
    novel_f1,
    score_answer,
    score_answers,
    token_f1,
    whole_sentence_scores,
    whole_sentences,
)
from medcards.base.files import to_json
from medcards.base.stats import Bootstrap, holm
from medcards.deck.words import squad_tokens
from medcards.search.evaluation import score_ranking, summarise_rankings


def test_interval_of_a_constant():
    assert Bootstrap(["a", "b", "c"], seed=0).interval([2, 2, 2]) == {"mean": 2.0, "lo": 2.0, "hi": 2.0, "n": 3}


def test_interval_is_two_standard_errors_wide_each_side():
    values = np.random.default_rng(0).normal(size=400)
    interval = Bootstrap(range(400), seed=1).interval(values)
    assert interval["hi"] - interval["lo"] == pytest.approx(4 / math.sqrt(400), rel=0.1)
    assert interval["lo"] < values.mean() == interval["mean"] < interval["hi"]


def test_interval_resamples_whole_groups():
    values = np.random.default_rng(0).normal(size=50)
    single = Bootstrap(range(50), seed=1).interval(values)
    copied = Bootstrap(np.repeat(range(50), 8), seed=1).interval(np.repeat(values, 8))
    assert copied["n"] == 400
    assert (copied["lo"], copied["hi"]) == pytest.approx((single["lo"], single["hi"]))


def test_interval_leaves_missing_values_out():
    interval = Bootstrap(["a", "b", "c"], seed=0).interval([1.0, math.nan, 1.0])
    assert interval == {"mean": 1.0, "lo": 1.0, "hi": 1.0, "n": 2}
    with pytest.raises(InputError, match="no row has a value"):
        Bootstrap(["a"], seed=0).interval([math.nan])
    with pytest.raises(ValueError, match="2 values for 1 rows"):
        Bootstrap(["a"], seed=0).interval([1, 2])


def test_ranking_scores():
    ids = np.array(["a", "b", "c", "d"])
    rows = np.array([[1, 0, 2, 3], [3, 2, 1, 0]])
    scores = score_ranking(rows, [{"a"}, {"d", "a"}], ids)
    assert scores["mrr@10"].tolist() == [0.5, 1.0]
    assert scores["recall@1"].tolist() == [0.0, 0.5]
    assert scores["recall@5"].tolist() == [1.0, 1.0]
    ideal = 1 + 1 / math.log2(3)
    assert scores["ndcg@10"].tolist() == pytest.approx([1 / math.log2(3), (1 + 1 / math.log2(5)) / ideal])


def test_ranking_without_a_relevant_answer_scores_zero():
    scores = score_ranking(np.array([[0]]), [{"z"}], np.array(["a"]))
    assert scores.to_numpy().tolist() == [[0.0] * 6]


def test_ranking_scores_equal_trec_eval():
    """trec_eval scores the same rankings, one query at a time."""
    import pytrec_eval

    random = np.random.default_rng(0)
    ids = np.array([f"d{number}" for number in range(60)])
    rows = np.array([random.permutation(60)[:50] for _ in range(40)])
    relevant = [set(random.choice(ids, random.integers(1, 6), replace=False)) for _ in rows]
    scores = score_ranking(rows, relevant, ids)
    run = {str(place): {ids[row]: 50.0 - rank for rank, row in enumerate(found)} for place, found in enumerate(rows)}
    qrels = {str(place): dict.fromkeys(right, 1) for place, right in enumerate(relevant)}
    measures = {"ndcg_cut.10", "recall.1,5,10,50", "recip_rank"}
    for place, expected in pytrec_eval.RelevanceEvaluator(qrels, measures).evaluate(run).items():
        found = scores.iloc[int(place)]
        assert found["ndcg@10"] == pytest.approx(expected["ndcg_cut_10"])
        for depth in (1, 5, 10, 50):
            assert found[f"recall@{depth}"] == pytest.approx(expected[f"recall_{depth}"])
        first = expected["recip_rank"]  # trec_eval has no cut at rank 10
        assert found["mrr@10"] == pytest.approx(first if first >= 0.1 else 0)


def test_ranking_scores_keep_the_order_of_ties():
    """The ranking puts b first. trec_eval would order ties by id."""
    scores = score_ranking(np.array([[0, 1]]), [{"b"}], np.array(["b", "z"]))
    assert scores["mrr@10"][0] == 1.0


def test_summarise_rankings_holds_paired_differences():
    ranked = (("dense_exact", [1.0, 0.0]), ("bm25", [1.0, 1.0]), ("hnsw", [0.5, 0.0]))
    summary = summarise_rankings(
        {name: pd.DataFrame({"mrr@10": values}) for name, values in ranked}, Bootstrap([0, 1], 0)
    )
    assert summary["bm25"]["mrr@10"] == {"mean": 1.0, "lo": 1.0, "hi": 1.0, "n": 2}
    assert summary["differences"]["bm25-dense_exact"]["mrr@10"]["mean"] == 0.5
    assert list(summary["differences"]) == ["bm25-dense_exact", "hnsw-dense_exact"]
    difference = summary["differences"]["bm25-dense_exact"]["mrr@10"]
    assert difference.keys() == {"mean", "lo", "hi", "n", "p", "p_holm", "detectable"}
    second = summary["differences"]["hnsw-dense_exact"]["mrr@10"]  # its p is the smaller one or equal, by Holm
    assert min(difference["p_holm"], second["p_holm"]) == pytest.approx(min(1, 2 * min(difference["p"], second["p"])))


@pytest.mark.parametrize(
    ("answer", "reference", "em", "f1"),
    [
        ("The Kidney.", "kidney", 1, 1),
        ("beta-blocker", "betablocker", 1, 1),  # SQuAD removes the hyphen, so it is one word
        ("beta blocker", "beta-blocker", 0, 0),
        ("and/or", "and or", 0, 0),
        ("a cyst of the kidney", "kidney cyst", 0, 0.8),
        ("cyst cyst", "cyst", 0, 2 / 3),
        ("", "kidney", 0, 0),
        ("the", "a", 1, 1),  # both are empty after normalisation
        ("hepatitis A", "hepatitis", 1, 1),  # A is an article to SQuAD
        ("“cyst”", "cyst", 1, 1),  # typographic punctuation
        ("a ‘renal’ cyst…", "renal cyst", 1, 1),
        ("5 \u03bcg", "5 \u00b5g", 1, 1),  # the Greek letter and the micro sign
    ],
)
def test_squad_scores(answer, reference, em, f1):
    assert exact_match(answer, reference) == em
    assert token_f1(answer, reference) == pytest.approx(f1)


def squad_script_tokens(text):
    """The normalisation of the SQuAD 1.1 script: lower case, no ASCII punctuation, no articles, single spaces."""
    without = "".join(sign for sign in text.lower() if sign not in set(string.punctuation))
    return re.sub(r"\b(a|an|the)\b", " ", without).split()


@settings(max_examples=300, deadline=None)
@given(st.text(st.characters(max_codepoint=127), max_size=60))
def test_words_of_ascii_text_are_those_of_squad(text):
    assert squad_tokens(text) == squad_script_tokens(text)


def test_novel_f1_sees_directions_and_the_a_of_a_name():
    """Above and below are stop words elsewhere, and A is an article to SQuAD."""
    assert novel_f1("above normal", "below normal", "") == 0.5
    assert novel_f1("hepatitis", "hepatitis A", "") == pytest.approx(2 / 3)
    assert novel_f1("hepatitis A", "hepatitis A virus", "") == pytest.approx(4 / 5)
    assert novel_f1("Hepatitis Virus", "Hepatitis A Virus", "") == pytest.approx(4 / 5)
    assert novel_f1("over", "under", "") == novel_f1("up", "down", "") == 0
    assert novel_f1("A Cyst Of A Kidney. A sac", "cyst kidney sac", "") == 1  # articles


def test_novel_f1_of_the_repeated_question_is_zero():
    question, reference = "What is a renal cyst?", "A renal cyst is a fluid-filled sac."
    assert token_f1(question, reference) > 0.5
    assert novel_f1(question, reference, question) == 0
    assert novel_f1("a sac", reference, question) == pytest.approx(2 / 3)  # of {fluidfilled, sac}


def test_novel_f1_is_nan_for_a_reference_without_new_words():
    assert math.isnan(novel_f1("x", "It is a cyst", "What is a cyst?"))
    scores = score_answer("x", "It is a cyst", "What is a cyst?", TermWeights(["a cyst"]))
    assert math.isnan(scores["novel_f1"]) and math.isnan(scores["sound_f1"]) and scores["token_f1"] == 0


def test_to_json_sorts_keys_and_rounds():
    value = {"b": np.float32(1) / 3, "a": [np.int64(2), 1e-9], "ü": "é"}
    assert to_json(value) == '{\n  "a": [\n    2,\n    1e-09\n  ],\n  "b": 0.333333,\n  "ü": "é"\n}\n'
    with pytest.raises(ValueError):
        to_json(math.nan)


QUESTION = "What treats gout?"
REFERENCE = "Colchicine 5 mg for the left knee"


def test_term_weights_are_larger_for_rare_words():
    """Every text of the deck has the word syndrome, so it weighs less than the other words."""
    weights = TermWeights(["renal syndrome", "cardiac syndrome", "hepatic syndrome"])
    assert weights["syndrome"] == pytest.approx(math.log(4 / 4) + 1)
    assert weights["renal"] == pytest.approx(math.log(4 / 2) + 1)
    scores = score_answer("cardiac syndrome", "renal syndrome", "", weights)
    assert scores["token_f1"] == 0.5
    assert scores["idf_f1"] == pytest.approx(2 * 1 / (2 * (1 + 1 + math.log(2))))


def test_score_answer():
    scores = score_answer("Colchicine 5 mg for the right knee", REFERENCE, QUESTION, TermWeights([REFERENCE]))
    assert scores["token_f1"] == pytest.approx(5 / 6)
    assert scores["novel_f1"] == pytest.approx(4 / 5)  # words: colchicine, 5, mg, left or right, knee
    assert scores["sound_f1"] == 0 and scores["contradiction"] == scores["contradiction_side"] == 1
    assert scores["contradiction_number"] == 0
    assert scores["rouge_l"] == pytest.approx(6 / 7)  # ROUGE-L counts "the" too
    assert 0.5 < scores["chrf"] < 1
    assert (scores["length_ratio"], scores["no_answer"], scores["echoed"]) == (1, 0, 0)


@pytest.mark.parametrize("answer", ["", "  ", "I'm sorry, but I cannot answer that.", "As an AI, I have no body."])
def test_no_answer_marks_empty_answers_and_refusals(answer):
    scores = score_answer(answer, REFERENCE, QUESTION, TermWeights([REFERENCE]))
    assert scores["no_answer"] == 1 and scores["sound_f1"] == 0 and scores["contradiction"] == 0


def test_score_answer_of_a_very_long_answer():
    scores = score_answer("knee " * 10_000, REFERENCE, QUESTION, TermWeights([REFERENCE]))
    assert scores["length_ratio"] == pytest.approx(10_000 / 7) and 0 < scores["token_f1"] < 0.001
    assert scores["rouge_l"] < 0.001


@pytest.mark.parametrize(
    ("text", "cut"),
    [
        ("Infection with E. coli that", "Infection with E. coli that"),
        ("A cyst, e.g. of the kidney. It", "A cyst, e.g. of the kidney."),
        ("1. A cyst. 2. A", "1. A cyst."),
        ("An iliac crest. it may", "An iliac crest. it may"),  # no sentence begins with a small letter
        ("“A cyst.” It may", "“A cyst.”"),
        ("肺部感染。这是", "肺部感染。"),
    ],
)
def test_whole_sentences_end_where_a_reader_ends_them(text, cut):
    assert whole_sentences(text) == cut


def test_truncated_answers_are_cut_after_their_last_whole_sentence():
    assert whole_sentences("A cyst. It is 2.5 cm wide! It may") == "A cyst. It is 2.5 cm wide!"
    assert whole_sentences("It may grow") == "It may grow"
    answers = pd.DataFrame(
        {
            "question": ["What is it?"] * 2,
            "reference": ["a cyst", "a stone"],
            "answers": [{"base": "A cyst. It may", "echo": "it"}, {"base": "A stone. It may", "echo": "it"}],
            "truncated": [{"base": True}, {"base": False}],
        }
    )
    scores = whole_sentence_scores(answers, TermWeights(["a cyst"]))
    assert list(scores) == ["base"]
    assert scores["base"].em.tolist() == [1, 0]  # the second answer ended on its own


def test_score_answers_refuses_lists_that_do_not_match():
    weights = TermWeights([REFERENCE])
    with pytest.raises(InputError, match="1 answers, 2 references, 1 questions"):
        score_answers(["a"], ["b", "c"], ["d"], weights)
    with pytest.raises(InputError, match="answer 2 is nan"):
        score_answers(["a", math.nan], ["b", "c"], ["d", "e"], weights)


@pytest.mark.parametrize(
    ("answer", "reference", "kinds"),
    [
        ("a dose of 5 mg", "a dose of 10 mg", {"number"}),
        ("a dose of 5 mg", "a dose of 5 g", {"unit"}),
        ("a cyst of 10 mm", "a cyst of 1 cm", set()),  # equal after conversion
        ("5 to 10 mg", "10 mg", set()),  # the range holds the value
        ("the fifth finger", "the 3rd finger", {"number"}),
        ("the fifth finger", "the 3rd toe", set()),  # different things are counted
        ("two kidneys", "three kidneys", {"number"}),
        ("onset in the first year", "onset after 1 year", set()),  # an ordinal and a cardinal
        ("more than 2 standard deviations", "less than three standard deviations", set()),  # 2.5 is both
        ("more than 3 standard deviations", "less than two standard deviations", {"number"}),
        ("1,000 mg of iron", "1 g of iron", set()),  # a separator of thousands
        ("1,000 mg", "2,000 mg", {"number"}),
        ("between 2 and 10 years", "at 5 years", set()),
        ("between 2 and 4 years", "at 5 years", {"number"}),
        ("30 minutes to 2 hours", "1 hour", set()),
        ("more than 10 mg", "20 mg", set()),
        ("more than 10 mg", "5 mg", {"number"}),
        ("no more than 10 mg", "20 mg", {"number"}),
        ("at least 65 years", "80 years", set()),
        ("65 years or older", "80 years", set()),
        ("65+ years", "60 years", {"number"}),
        ("before the age of 5 years", "at 3 years", set()),
        ("about 10 mg", "10.5 mg", set()),
        ("about 10 mg", "20 mg", {"number"}),
        ("2 months", "60 days", set()),  # a month has 30 days or so
        ("2 months", "90 days", {"number"}),
        ("one year", "12 months", set()),
        ("one year", "5 years", {"number"}),
        ("5 mg", "5mg", set()),
        ("5mg", "6 mg", {"number"}),
        ("a 5-mg dose", "a dose of 5 mg", set()),
        ("a 2-year-old child", "a child of 3 years", {"number"}),
        ("2,5 mg", "2.5 mg", set()),  # a decimal comma
        ("2,5 mg", "25 mg", {"number"}),
        (".5 mg", "5 mg", {"number"}),
        (".5 mg", "0.5 mg", set()),
        ("½ mg", "0.5 mg", set()),
        ("5 \u03bcg", "5 mg", {"unit"}),  # the Greek letter
        ("5 \u03bcg", "5 \u00b5g", set()),  # the micro sign
        ("5 \u03bcg", "5 mcg", set()),
        ("4 × 10⁹/L", "4 × 10^9/L", set()),
        ("4 × 10⁹ cells", "4 × 10⁶ cells", {"number"}),
        ("100 mg/dL", "1 g/L", set()),
        ("100 mg/dL", "100 mg", set()),  # a concentration and a mass
        ("5–10 mg", "7 mg", set()),  # a dash
        ("children over 5 years", "children under 5 years", {"number", "direction"}),  # none is exactly 5
        ("up to 5 years", "more than 5 years", {"number"}),
        ("<5 %", "≥ 5 %", {"number"}),
        ("more than 10 mg", "10 mg", set()),  # too near to tell
        ("a lesion not larger than 5 cm", "a lesion of 3 cm", set()),
        ("no older than 2 years", "1 year", set()),
        ("a maximum of 4 g", "3 g", set()),
        ("a minimum of 4 g", "3 g", {"number"}),
        ("from 5 up to 10 mg", "7 mg", set()),
        ("two, three or four days", "2 days", set()),
        ("below −2 SD", "a height of −3 SD", set()),  # a minus sign
        ("below -2 SD", "more than 2 SD below the mean", set()),
        ("-5 dioptres", "5 dioptres", {"number"}),
        ("lasts twenty-one days", "lasts 21 days", set()),
        ("fifteen years", "20 years", {"number"}),
        ("1.5 million cells", "1,500,000 cells", set()),
        ("10 000 mg", "10,000 mg", set()),  # a space between thousands
        ("three times a day", "for 2 days", set()),  # times are no time
        ("QRS over 120 ms", "a cyst of 5 cm", set()),
        ("120/80 mmHg", "160/100 mmHg", {"number"}),
        ("300 mg/24 h", "30 mg/24 h", {"number"}),
        ("vitamin B12 deficiency", "vitamin B6 deficiency", set()),  # names, no numbers
        ("the left kidney", "the right kidney", {"side"}),
        ("the left and right kidneys", "the right kidney", set()),
        ("a left-sided mass", "a right-sided mass", {"side"}),
        ("bilateral cataract", "unilateral cataract", {"side"}),
        ("If left untreated, it spreads", "a cyst of the right kidney", set()),
        ("give the right dose", "a cyst of the left kidney", set()),
        ("if left in place", "a cyst of the right kidney", set()),
        ("patients left with weakness", "the right arm", set()),
        ("the right choice", "the left leg", set()),
        ("unilaterally", "bilaterally", {"side"}),
        (
            "An elevation above normal limits of the concentration of estrone in the circulation.",
            "A reduction below normal limits of the concentration of estrone in the circulation.",
            {"direction"},
        ),
        ("increased calcium", "decreased calcium", {"direction"}),
        ("increased calcium", "decreased phosphate", set()),  # about different words
        ("calcium is elevated", "low levels of calcium", {"direction"}),
        ("calcium is not elevated", "low levels of calcium", set()),
        ("calcium rises above normal and falls below normal", "low calcium", set()),  # both poles
        ("a level lower than that of calcium", "high calcium", {"direction"}),
        ("long fingers", "short fingers", {"direction"}),
        ("large teeth", "small teeth", {"direction"}),
        ("thick lips", "thin lips", {"direction"}),
        ("early onset", "late onset", {"direction"}),
        ("hyperkalemia", "hypokalemia", {"direction"}),
        ("hyper-reflexia", "hyporeflexia", {"direction"}),
        ("macrocephaly", "microcephaly", {"direction"}),
        ("intra- and extrahepatic ducts", "intrahepatic ducts", set()),  # both poles
        ("intra- and extra-hepatic ducts", "extrahepatic ducts", set()),
        ("tachycardia", "bradycardia", {"direction"}),
        ("hypertension", "hypotonia", set()),
        ("the proximal phalanx", "the distal phalanx", {"direction"}),
        ("higher risk", "lower risk", {"direction"}),
        ("it raises blood pressure", "it lowers blood pressure", {"direction"}),
        ("elevated levels of calcium", "lower levels of calcium", {"direction"}),
        ("it dilates the pupil", "it constricts the pupil", {"direction"}),
        ("it is increased", "it is decreased", {"direction"}),
        ("TSH is increased and T4 is decreased", "TSH is decreased and T4 is increased", {"direction"}),
        ("most cases are benign", "at least 90% of cases are benign", set()),
        ("no fever", "fever and pain", {"negation"}),
        ("it is not contagious", "contagious", {"negation"}),
        ("it doesn't spread", "it can spread", {"negation"}),
        ("it doesn’t spread", "it can spread", {"negation"}),
        ("It doesn’t spread", "It spreads", {"negation"}),
        ("It does not require surgery", "It requires surgery", {"negation"}),
        ("absence of the thumb", "a short thumb", {"negation"}),
        ("no fever", "without fever", set()),
        ("with or without fever", "fever", set()),
        ("absence or underdevelopment of the thumb", "absence of the thumb", set()),
        ("no fever, but fever later", "fever", set()),  # the answer also states fever
        ("not at night. Pain by day", "pain", set()),  # a full stop ends the denial
        ("", "the left kidney", set()),
        ("Cinacalcet treats high calcium levels.", "Cinacalcet lowers calcium levels.", set()),  # a state and a change
        ("Statins lower cholesterol.", "Statins are used to treat high cholesterol.", set()),
        ("Statins lower cholesterol.", "Statins increase cholesterol.", {"direction"}),
        ("Insulin lowers blood glucose", "It prevents high blood glucose", set()),
        ("It is used to lower glucose", "increased glucose", set()),
        ("Fever is not present.", "A rash without fever.", set()),  # the denial follows the noun
        ("Fever isn't present.", "A rash without fever.", set()),
        ("Fever is not present.", "Fever is present.", {"negation"}),
        ("Surgery is not needed.", "It needs no surgery.", set()),
        ("A cure is not available", "It has no cure", set()),
        ("Reflexes are not present", "absence of reflexes", set()),
        ("Treatment is not necessary", "Requires no treatment", set()),
        ("Without treatment it is fatal.", "It is fatal unless treatment is given.", set()),
        ("More common in women", "Less common in men", set()),  # about different classes
        ("Less common in men than in women", "More common in women", set()),
        ("More common in women", "Less common in women", {"direction"}),
        ("More common in women than in men", "Less common in women than in men", {"direction"}),
        ("It is more severe than asthma", "It is less severe than pneumonia", set()),
        ("It causes lower calcium levels", "It causes higher calcium levels", {"direction"}),
        ("an elevated diaphragm", "a lowered diaphragm", {"direction"}),
        ("It extends the elbow", "It flexes the elbow", {"direction"}),
        ("made up of proteins", "break down proteins", set()),  # up and down belong to the verb
        ("takes up glucose", "breaks down glucose", set()),
        ("elevation of the extremity", "Edema of the lower extremities", set()),  # lower is a place
        ("Pain on raising the leg", "Pain in the lower leg", set()),
        ("the upper leg", "the lower leg", {"direction"}),
        ("The tumor extends into the elbow", "Injury on flexion of the elbow", set()),
        ("Injury on extension of the elbow", "Injury on flexion of the elbow", {"direction"}),
        ("Abnormal position of the eyes", "Negative eye test", set()),
        ("usually appears by 2 years of age", "appears at 18 months", set()),
        ("lasts until 2 years", "at 1 year", set()),
        ("lasts until 2 years", "at 3 years", {"number"}),
        ("rises by 5 mg", "rises by 10 mg", {"number"}),
        ("500 mg every 6 hours", "500 mg 4 times a day for 10 days", set()),  # a rate and a duration
        ("500 mg every 6 hours", "500 mg every 8 hours", {"number"}),
        ("Oliguria.", "Polyuria.", {"direction"}),
        ("on chromosome 21", "on chromosome 18", {"number"}),  # the number follows what it counts
        ("pH of 7.35", "pH of 7.2", {"number"}),
        ("stage 3", "stage 4", {"number"}),
        ("stage 3", "stages 3 and 4", set()),
        ("on day 3", "by day 5", set()),
        ("from grade 1 to grade 3", "grade 2", set()),
        ("chromosome 21 is affected", "chromosome 13 is affected", {"number"}),
        ("1. rest 2. ice", "1. salt 2. rest 3. ice 4. heat", set()),  # numbers of a list
        ("vitamin B 12", "vitamin B 6", set()),
        ("a lesion of type 1", "a lesion of type 2", set()),
        ("Reflexes are absent.", "There are no reflexes.", set()),
        ("Lack of dystrophin in muscle", "The biopsy shows absent dystrophin", set()),
        ("If implantation does not occur, it dies.", "Implantation occurs.", set()),  # a condition denies nothing
        ("It dies, and implantation does not occur.", "Implantation occurs.", {"negation"}),
        ("narrowing of the pylorus", "surgery to widen the pylorus", set()),
        ("widening of the pylorus", "narrowing of the pylorus", {"direction"}),
        ("Macroscopic necrosis", "Microscopically, necrosis", set()),
    ],
)
def test_contradictions(answer, reference, kinds):
    assert contradictions(answer, reference) == kinds
    assert contradictions(reference, answer) == kinds
    assert contradictions(reference, reference) == set()


def test_occasions():
    assert occasions("A cyst") == {"negation"}
    assert occasions("A cyst of 5 cm of the left kidney") == {"negation", "number", "unit", "side"}
    assert occasions("Cysts of left and right kidney") == {"negation"}
    assert occasions("Increased calcium") == occasions("Hypercalcemia") == {"negation", "direction"}


def test_medical_qa_metric_loads_offline():
    """The library evaluate loads the module from its file, as the module's docstring shows."""
    import evaluate
    from conftest import ROOT

    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        patch.syspath_prepend(str(ROOT))
        patch.setenv("HF_HUB_OFFLINE", "1")
        metric = evaluate.load("medcards/answers/medical_qa.py")
    columns = {"predictions": ["Colchicine", ""], "references": [REFERENCE] * 2, "questions": [QUESTION] * 2}
    found = metric.compute(**columns)
    scores = score_answers(*columns.values(), TermWeights([REFERENCE] * 2))
    assert found["n"] == 2 and found["no_answer"] == 0.5
    assert found["novel_f1"] == pytest.approx(scores.novel_f1.mean()) and found["novel_f1"] > 0


def difference_of(values, tests: int = 1) -> dict:
    """The difference of ungrouped values, tested together with ``tests`` - 1 pairs that do not differ."""
    pairs = {"a-b": pd.DataFrame({"f1": values})}
    pairs |= {f"{number}": pd.DataFrame({"f1": np.zeros(len(values))}) for number in range(1, tests)}
    return Bootstrap(range(len(values)), seed=1).differences(pairs)["a-b"]["f1"]


def test_difference_has_a_p_value_and_a_detectable_difference():
    values = np.random.default_rng(0).normal(size=400)
    clear, none = difference_of(values - values.mean() + 1), difference_of(values - values.mean())
    assert clear["p"] == pytest.approx(2 / 20_001) and none["p"] > 0.5
    assert clear["detectable"] == pytest.approx((1.960 + 0.842) / 20, rel=0.1)  # standard errors of a mean of 400
    assert clear["mean"] == pytest.approx(1) and clear["n"] == 400
    assert clear["hi"] - clear["lo"] == pytest.approx(2 * 1.960 / 20, rel=0.1)


def test_detectable_belongs_to_the_corrected_test():
    """With 8 tests the first step of Holm tests at 0.05 / 8, whose two-sided quantile is 2.734."""
    values = np.random.default_rng(0).normal(size=400)
    one, eight = difference_of(values), difference_of(values, tests=8)
    assert eight["detectable"] / one["detectable"] == pytest.approx((2.734 + 0.842) / (1.960 + 0.842), rel=1e-3)
    assert eight["p_holm"] == pytest.approx(min(1, 8 * eight["p"])) and one["p_holm"] == one["p"]


def test_eight_corrected_pairs_can_be_significant_at_a_thousandth():
    """With 2,000 resamples the smallest corrected p was 0.008."""
    assert difference_of(np.ones(50), tests=8)["p_holm"] == pytest.approx(8 * 2 / 20_001)


def test_difference_leaves_missing_values_out():
    """Score x has a value in two of three groups, score y in none."""
    table = pd.DataFrame({"x": [1.0, math.nan, 1.0], "y": math.nan})
    found = Bootstrap(["a", "b", "c"], seed=0).differences({"pair": table})
    assert found["pair"].keys() == {"x"}
    assert (found["pair"]["x"]["lo"], found["pair"]["x"]["hi"], found["pair"]["x"]["n"]) == (1, 1, 2)
    with pytest.raises(InputError, match="infinite"):
        Bootstrap(["a", "b"], seed=0).differences({"pair": pd.DataFrame({"x": [1.0, math.inf]})})


def test_difference_resamples_whole_groups():
    values = np.random.default_rng(0).normal(size=50)
    single, groups = difference_of(values), np.repeat(range(50), 8)
    copied = Bootstrap(groups, seed=1).differences({"a-b": pd.DataFrame({"f1": np.repeat(values, 8)})})["a-b"]["f1"]
    assert copied == pytest.approx(single | {"n": 400})


def test_a_tie_of_resamples_is_zero_in_any_order_of_its_sum():
    """0.1 + 0.2 - 0.3 is not 0 as a float. A resample with each value once has the mean 0, on both sides of zero."""
    found = difference_of([0.1, 0.2, -0.3])
    assert found["p"] == difference_of([1.0, 2.0, -3.0])["p"]


def test_holm():
    """The smallest of three p values is multiplied by 3, and no adjusted p value is below the one before it."""
    assert holm({"a": 0.01, "b": 0.04, "c": 0.03}) == pytest.approx({"a": 0.03, "c": 0.06, "b": 0.06})
    assert holm({"a": 0.9}) == {"a": 0.9}


@pytest.mark.parametrize("text", ["Platelets below 21 × 10⁹/L.", "① a cyst ② a stone", "½ of them", "٣ mg", "²³ x ⁵"])
def test_numbers_of_any_script_are_scored(text):
    """ "⁹" is a digit to Python's str.isdigit, and no number to float."""
    for answer, reference in ((text, "A cyst of 5 mg."), ("A cyst of 5 mg.", text), (text, text)):
        scores = score_answer(answer, reference, "What is it?", TermWeights([reference]))
        assert 0 <= scores["token_f1"] <= 1
    assert scores["em"] == 1 and scores["contradiction"] == 0


UNICODE = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)


@settings(max_examples=300, deadline=None)
@given(UNICODE, UNICODE, UNICODE)
def test_no_text_breaks_a_score(answer, reference, question):
    scores = score_answer(answer, reference, question, TermWeights([reference]))
    assert all(math.isnan(value) or 0 <= value for value in scores.values())
    assert all(not value > 1.000001 for name, value in scores.items() if name != "length_ratio")


def test_scripts_without_spaces_are_scored_by_characters():
    assert token_f1("肺部感染", "肺部炎症") == pytest.approx(2 * 2 / (4 + 4))
    assert exact_match("肺部感染。", "肺部感染") == 1
    assert token_f1("โรคปอด", "โรคปอด") == 1
