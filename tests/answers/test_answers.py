"""Answering systems side by side: their scores, differences and slices, and the warnings about them."""

import numpy as np
import pandas as pd
import pytest
import tiny
import torch

from medcards import InputError
from medcards.answers.comparison import (
    HEADLINE,
    SYSTEM_KINDS,
    answer_pairs,
    best_system,
    by_similarity,
    far_from_training,
    slices,
    summarise_answers,
)
from medcards.answers.constant import best_constant
from medcards.answers.contradictions import CONTRADICTION_KINDS
from medcards.answers.exam import Exam, Models
from medcards.answers.open_book import QUOTED
from medcards.answers.records import AnswerParams, read_answers, write_answers
from medcards.answers.scores import TermWeights, score_answers
from medcards.answers.systems import ANSWERING_SYSTEMS, chosen_systems, copy_nearest, search_open
from medcards.base.files import write_json
from medcards.base.stats import Bootstrap, paired_differences
from medcards.report.answers import warnings
from medcards.search.vectors import Vectors

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
    summary = summarise_answers(scores, bootstrap)
    summary["differences"] = paired_differences(scores, bootstrap, answer_pairs(summary))
    summary["split"] = "test"
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
def test_warnings_name_a_system_that_only_looks_good_and_sound_f1_ranks_it_low(qa, system, says):
    said = warnings(qa, leak=0.0)
    assert any(line.startswith(f"`{system}` ") and says in line for line in said)
    assert not any("`lora`" in line or "`base`" in line for line in said)
    assert qa[system][HEADLINE]["mean"] <= qa["base"][HEADLINE]["mean"] < qa["lora"][HEADLINE]["mean"]


def test_token_f1_ranks_swapped_sides_high(qa):
    assert qa["swaps"]["token_f1"]["mean"] > 0.8
    assert qa["repeats"]["token_f1"]["mean"] == 0 and qa["swaps"]["novel_f1"]["mean"] > 0.8


def test_warnings_name_small_samples_leaks_and_cut_answers(qa):
    cut = dict(qa)
    cut["lora"] = qa["lora"] | {"truncated": {"mean": 0.5, "lo": 0.4, "hi": 0.6, "n": 20}}
    said = " ".join(warnings(cut, leak=0.2))
    assert "Small sample: 20 questions" in said and "`answer.test_questions` sets their number" in said
    assert "`answer.questions` sets" in " ".join(warnings(cut | {"split": "validation"}, leak=0.2))
    assert "Leak: 20.0% of the test questions" in said
    assert "`lora`: 50% of its answers were cut off" in said


def test_every_system_has_a_kind_and_every_kind_of_contradiction_a_score(scores):
    assert {name for names in SYSTEM_KINDS.values() for name in names} == set(ANSWERING_SYSTEMS)
    assert {f"contradiction_{kind}" for kind in CONTRADICTION_KINDS} < set(scores["base"].columns)


def test_pairs_compare_learned_systems_with_each_baseline_whatever_they_score(qa):
    asked = ("base", "base_fewshot", "lora", "lora_rag", "echo", "constant")
    fixed = {("lora", "base_fewshot"), ("lora", "base"), ("base_fewshot", "base"), ("lora_rag", "lora")}
    assert set(answer_pairs(asked)) == fixed | {(name, to) for name in asked[:4] for to in ("echo", "constant")}
    assert list(qa["differences"]) == ["lora-base"]  # of those that were asked here


def test_differences_are_paired_and_corrected_for_all_pairs(scores):
    """Three pairs are looked at. The p of the first is the smallest, so it is multiplied by 3."""
    pairs = [("lora", "base"), ("empty", "base"), ("repeats", "empty")]
    found = paired_differences(scores, Bootstrap(CARDS.group, 0), pairs)
    assert list(found) == ["lora-base", "empty-base", "repeats-empty"]
    shown = found["lora-base"]["novel_f1"]
    assert shown["mean"] == pytest.approx((scores["lora"].novel_f1 - scores["base"].novel_f1).mean())
    assert shown["p"] < 0.01 and shown["p_holm"] == pytest.approx(3 * shown["p"])


def test_best_system_is_best_by_the_headline_score(qa):
    assert best_system(qa, ("base", "lora", "absent")) == "lora"
    assert best_system(qa, ("absent",)) is None
    with pytest.raises(InputError, match="ask more questions"):
        best_system({"base": {}}, ("base",))


def test_far_from_training_leaves_out_questions_with_a_near_copy(scores):
    far = far_from_training(scores, np.array([0.95] * 15 + [0.5] * 5), CARDS.group, seed=0)
    assert far["lora"]["token_f1"]["n"] == 5
    assert far["lora"]["token_f1"]["mean"] == pytest.approx(scores["lora"].token_f1[15:].mean())
    assert far_from_training(scores, np.ones(20), CARDS.group, seed=0) == {}


def test_by_similarity_has_bins_of_equal_size(scores):
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
    assert ("cluster", "b") not in found.index  # it has fewer than five groups
    assert [name for by, name in found.index if by == "reference length"] == [
        f"quartile {part}" for part in range(1, 5)
    ]


def test_the_best_constant():
    """Token F1 against the others: of the first 0.8 and 0, of the third 0.8 and 0, so the first in order is taken."""
    answers = pd.Series(["a cyst of kidney", "pain", "kidney cyst", "the cyst"])
    mean = {"a cyst of kidney": (0 + 4 / 5 + 2 / 4) / 3, "kidney cyst": (4 / 5 + 0 + 2 / 3) / 3}
    assert mean["kidney cyst"] > mean["a cyst of kidney"]
    assert best_constant(answers, seed=0) == "kidney cyst"


def test_an_unknown_system_is_refused_by_name():
    with pytest.raises(InputError, match="lora_rga is no answering system; known: echo, constant"):
        chosen_systems(["echo", "lora_rga"])
    assert list(chosen_systems(["echo", "echo"])) == ["echo"]


def test_systems_of_one_model_follow_each_other():
    names = list(chosen_systems(["lora", "oracle", "base", "lora_rag", "echo", "base_rag_open", "base_rag"]))
    assert names == ["echo", "base", "base_rag", "base_rag_open", "lora", "lora_rag", "oracle"]


def test_models_are_loaded_once_and_only_for_what_is_not_kept(exam, tmp_path, monkeypatch):
    import peft

    from medcards.llm import loading
    from medcards.llm.lora import describe_adapter

    folder = tiny.make_llm(tmp_path / "llm")
    exam.models = Models(tiny.llm_params(folder), exam.data / "adapter")
    adapter = peft.get_peft_model(loading.load_llm(exam.models.llm)[0], peft.LoraConfig(r=4, init_lora_weights=False))
    adapter.save_pretrained(exam.data / "adapter")
    describe_adapter(exam.data / "adapter", {"llm": exam.models.llm.model_dump()})
    monkeypatch.setenv("MEDCARDS_SCRATCH", str(tmp_path / "scratch"))
    loads, usual = [], loading.load_llm
    monkeypatch.setattr(loading, "load_llm", lambda params: loads.append(params) or usual(params))
    systems = chosen_systems(["base", "base_fewshot", "lora", "base_rag", "lora_rag"])
    made = {name: system(exam) for name, system in systems.items()}
    assert len(loads) == 1
    assert made["base"].nll != made["lora"].nll and made["base"].nll != made["base_rag"].nll
    del exam.models.tuned
    assert {name: system(exam) for name, system in systems.items()} == made and len(loads) == 1


@pytest.fixture
def says(monkeypatch):
    """Let every model say the given texts. The list that is returned holds what the models read."""
    from medcards.llm import generation, loading

    read = []

    def model_that_says(*texts: str) -> list:
        def generate(*_, context, **options):
            read.append(context)
            return [generation.Generated(text, 3, False, 1.0) for text in texts]

        monkeypatch.setattr(generation, "generate", generate)
        return read

    monkeypatch.setattr(loading, "load_tokenizer", lambda _: None)
    monkeypatch.setattr(Exam, "kept", lambda *_: None)
    return model_that_says


def test_answers_say_which_card_they_cite(exam, says, tmp_path):
    """The file has the answers without the numbers. A system that reads no numbered cards cites none."""
    exam.models = Models(tiny.llm_params(tmp_path), exam.data / "adapter")
    says("[2] An arthritis", "[3] Narrow airways")
    names = ["base", "base_fewshot", "base_rag_open", "lora_rag", "oracle"]
    made = {name: system(exam) for name, system in chosen_systems(names).items()}
    for name in ("base", "base_fewshot"):
        assert made[name].cited is None and made[name].texts == ["[2] An arthritis", "[3] Narrow airways"]
    for name in ("base_rag_open", "lora_rag"):  # two cards
        assert made[name].cited == [2, None] and made[name].texts == ["An arthritis", "[3] Narrow airways"]
    assert made["oracle"].cited == [None, None]  # one card
    asked = exam.questions[["card_id", "question"]].assign(reference=exam.questions.answer)
    write_answers(asked, made, tmp_path / "answers.jsonl")
    first, second = (row for row in read_answers(tmp_path).to_dict("records"))
    assert first["cited"] == {"base_rag_open": 2, "lora_rag": 2, "oracle": None}
    assert second["cited"] == {"base_rag_open": None, "lora_rag": None, "oracle": None}
    assert first["answers"]["lora_rag"] == "An arthritis" and first["read"]["lora_rag"] == made["lora_rag"].read[0]


def test_open_systems_read_the_first_cards_of_the_whole_deck(exam, says, tmp_path):
    exam.models, read = Models(tiny.llm_params(tmp_path), exam.data / "adapter"), says("A", "B")
    for system in chosen_systems(["base_rag_open", "lora_rag_open"]).values():
        system(exam)
    gout, asthma = ["Arthritis with crystals", "An arthritis"], ["Narrow airways", "A lung disease"]
    assert read == [[gout, asthma]] * 2


def test_a_served_answer_is_without_its_citation(tmp_path):
    """Also while it is streamed. The model repeats one word: the number of a card."""
    from medcards.answers.asker import Asker
    from medcards.llm.loading import load_llm
    from medcards.search.searcher import Found, Hit

    model, tokenizer = load_llm(tiny.llm_params(tiny.make_llm(tmp_path / "llm")))
    words = iter(tokenizer("[2] fever of the joints")["input_ids"])
    model.generate = lambda input_ids, streamer, **_: (
        streamer.put(input_ids[0]),
        [streamer.put(torch.tensor([word])) for word in words],
        streamer.end(),
    )
    asker = Asker(None, set(), tmp_path, QUOTED)
    asker._loaded = model, tokenizer, ""
    hits = [Hit(rank, "a", "What?", "A.", "deck", 1.0, {}) for rank in (1, 2)]
    *parts, last = asker.replies("What is gout?", Found(hits, 0.9, False), "base")
    assert last.text == "fever of the joints" and all(last.text.startswith(part.text) for part in parts)
    assert last.cited == hits[1] and last.answered_by == "base"


@pytest.fixture
def exam(tmp_path) -> Exam:
    """Four cards of two splits, and rankings of the two test questions."""
    cards = pd.DataFrame(
        {
            "card_id": ["a", "b", "c", "d"],
            "question": ["What is gout?", "What is asthma?", "Define gout.", "Define asthma."],
            "answer": ["An arthritis", "A lung disease", "Arthritis with crystals", "Narrow airways"],
            "group": ["1", "2", "3", "4"],
            "split": ["train", "train", "test", "test"],
            "query_set": "own",
        }
    )
    gout, asthma = [1.0, 0.0], [0.0, 1.0]
    unit, ids = np.array([gout, asthma, gout, asthma], dtype=np.float32), cards.card_id.to_numpy(dtype=np.str_)
    tokens = np.ones(4, dtype=np.int32)
    vectors = Vectors(ids, unit, tokens, ids, unit, tokens, max_tokens=8)
    ranked = pd.DataFrame({"query": list("ccdd"), "answer": list("cadb"), "rank": [1, 2, 1, 2]})
    (tmp_path / "rankings").mkdir()
    ranked = ranked.assign(split="test", query_set="own", system="hybrid", hidden=False)
    ranked.to_parquet(tmp_path / "rankings/test-own.parquet")
    write_json(tmp_path / "rankings/served.json", {"system": "hybrid", "questions": False})
    sizes = {
        "questions": 1,
        "test_questions": 2,
        "max_new_tokens": 8,
        "batch_tokens": 64,
        "context_cards": 2,
        "open_book_sets": ["own"],
    }
    params = AnswerParams(systems=["search_open"], split="test", **sizes)
    questions = cards[cards.split == "test"].reset_index(drop=True)
    return Exam(cards, questions, vectors, tmp_path, None, params, "", seed=0)


def test_copy_nearest_gives_the_answer_of_the_nearest_training_question(exam):
    assert copy_nearest(exam).texts == ["An arthritis", "A lung disease"]


def test_base_fewshot_has_random_training_cards_as_earlier_turns(exam):
    """Their order differs from question to question. The deck has two training cards, so there are two turns."""
    pairs = {("What is gout?", "An arthritis"), ("What is asthma?", "A lung disease")}
    exam.questions = pd.concat([exam.questions] * 10)
    assert all(len(cards) == 2 and set(cards) == pairs for cards in exam.examples)
    assert len({tuple(cards) for cards in exam.examples}) == 2
    again = Exam(exam.cards, exam.questions, exam.vectors, exam.data, None, exam.params, "", seed=0)
    assert again.examples == exam.examples
    exam.cards = exam.cards.assign(query_set=["own", "layperson", "own", "own"])
    del exam.__dict__["examples"], exam.__dict__["train"]
    assert set(exam.examples[0]) == {("What is gout?", "An arthritis")}


def test_search_open_gives_the_first_card_of_the_served_rankings(exam):
    assert search_open(exam).texts == ["Arthritis with crystals", "Narrow airways"]
    assert [found.index.tolist() for found in exam.found] == [["c", "a"], ["d", "b"]]


def test_questions_that_were_not_ranked_are_refused(exam):
    exam.questions = exam.cards
    with pytest.raises(InputError, match="answer.test_questions=2: 2 of these .* raise rerank_eval.test_queries"):
        search_open(exam)
