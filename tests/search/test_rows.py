"""Training rows: sampled cards, their context, and their tokens."""

import itertools

import numpy as np
import pandas as pd
import pytest
import tiny

from medcards import InputError


@pytest.fixture(scope="module")
def llama(tmp_path_factory):
    return tiny.make_llm(tmp_path_factory.mktemp("llama"))


@pytest.fixture(scope="module", params=["chat template", "plain"])
def tokenizer(request, tmp_path_factory):
    from medcards.llm.loading import load_tokenizer

    template = tiny.CHAT_TEMPLATE if request.param == "chat template" else None
    return load_tokenizer(tiny.llm_params(tiny.make_llm(tmp_path_factory.mktemp("llm"), template)))


GOUT = pd.DataFrame([{"question": "What is gout?", "answer": "gout is a fever"}])


def test_training_counts_the_tokens_that_evaluation_asks_with(tokenizer, llama, tmp_path):
    """TRL trains on the ids of the prompt; the loss counts the answer and its end."""
    from transformers import AutoModelForCausalLM
    from trl import SFTConfig, SFTTrainer

    from medcards.llm.prompts import prompt_ids
    from medcards.llm.tokenise import training_rows

    rows, _ = training_rows(tokenizer, GOUT, "Be brief.", 512, [["Gout hurts."]])
    settings = SFTConfig(
        output_dir=str(tmp_path), use_cpu=True, bf16=False, report_to="none", completion_only_loss=True
    )
    model = AutoModelForCausalLM.from_pretrained(llama)
    trainer = SFTTrainer(model=model, args=settings, train_dataset=rows, processing_class=tokenizer)
    batch = next(iter(trainer.get_train_dataloader()))
    ids, labels = batch["input_ids"][0].tolist(), batch["labels"][0].tolist()
    head = prompt_ids(tokenizer, "What is gout?", "Be brief.", ["Gout hurts."])
    assert ids[: len(head)] == head
    assert labels == [-100] * len(head) + ids[len(head) :]
    assert "gout is a fever" in tokenizer.decode(ids[len(head) :])
    assert tokenizer.eos_token_id in ids[len(head) :]
    whole = tokenizer.decode(ids)
    assert whole.index("Be brief.") < whole.index("[1] Gout hurts.") < whole.index("What is gout?")


def test_a_training_row_has_the_tokens_of_the_chat_template(tokenizer):
    """The template renders the whole conversation at once; a row is made of two parts."""
    from medcards.llm.prompts import prompt
    from medcards.llm.tokenise import training_rows

    rows, _ = training_rows(tokenizer, GOUT, "Be brief.", 128)
    messages = [*prompt("What is gout?", "Be brief."), {"role": "assistant", "content": "gout is a fever"}]
    text = tokenizer.apply_chat_template(messages, tokenize=False)
    assert tokenizer.decode(rows[0]["input_ids"]) == text.rstrip("\n")  # what follows the end token is not trained


def test_training_rows_count_what_they_cut(tokenizer, caplog):
    from medcards.llm.tokenise import training_rows

    table, context = pd.concat([GOUT] * 3), [[], ["Gout hurts. " * 3, "Gout comes back. " * 3], []]
    whole, counts = training_rows(tokenizer, table, "", 1000, context)
    lengths = [len(ids) for ids in whole["input_ids"]]
    assert counts["rows"] == 3 and counts["with_context"] == 1 and counts["tokens"] == sum(lengths)
    assert not any(counts[what] for what in ("context_cards_left_out", "answers_cut", "left_out"))

    with caplog.at_level("INFO"):
        cut, counts = training_rows(tokenizer, table, "", lengths[1] - 1, context)
    assert (counts["context_cards_left_out"], counts["answers_cut"], counts["with_context"]) == (1, 0, 1)
    assert "context cards left out: 1 of 3 rows" in caplog.text
    assert len(cut[1]["input_ids"]) < lengths[1]

    cut, counts = training_rows(tokenizer, table, "", lengths[0] - 1, context)
    assert counts["citations_left_out"] == 0 and counts["answers_cut"] == 3 and counts["with_context"] == 0
    assert cut[0]["input_ids"] == whole[0]["input_ids"][:-1]
    with pytest.raises(InputError, match="finetune.max_length=3 tokens leave no room"):
        training_rows(tokenizer, table, "", 3)


def test_the_citation_is_the_start_of_the_answer(tokenizer):
    from medcards.llm.tokenise import training_rows

    (row,), counts = training_rows(tokenizer, GOUT, "", 1000, [["Anemia.", "Gout hurts."]], [2])
    masks = zip(row["input_ids"], row["completion_mask"], row["citation_mask"], strict=True)
    answer = [(id, citation) for id, completion, citation in masks if completion]
    assert "".join(tokenizer.decode(id) for id, citation in answer if citation).strip() == "[2]"
    others = "".join(tokenizer.decode(id) for id, citation in answer if not citation)
    assert others.strip() == f"gout is a fever{tokenizer.eos_token}"
    assert sum(row["citation_mask"]) == sum(citation for _, citation in answer)
    assert counts["with_citation"] == counts["with_context"] == 1


def test_the_tokens_of_a_citation_are_found_wherever_a_tokenizer_cuts():
    """By hand: a turn that begins with an empty thought, and tokens that hold more than the number."""
    from medcards.llm.tokenise import citation_mask

    class Words:
        def decode(self, words):
            return "".join(words)

    for words, number, mask in (
        (["<think>", "</think>", "[", "2", "]", " Gout", "</s>"], 2, [0, 0, 1, 1, 1, 0, 0]),
        (["[12", "] Gout", " [12]"], 12, [1, 1, 0]),
        ([" [2]", " Gout"], 2, [1, 0]),
        (["[", "2", "]", " Gout"], 0, [0, 0, 0, 0]),
        (["?", "2", "?"], 2, [0, 0, 0]),
    ):
        assert citation_mask(Words(), words, number) == mask


def test_a_row_that_loses_the_cited_card_is_closed_book(tokenizer, caplog):
    """The last card goes first. A row that keeps the cited card keeps the citation."""
    from medcards.llm.tokenise import training_rows

    context, table = [["Gout hurts. " * 3, "Anemia. " * 9]], GOUT
    for cited, kept in ((1, "[1] gout is a fever"), (2, "gout is a fever")):
        (whole,), _ = training_rows(tokenizer, table, "", 1000, context, [cited])
        with caplog.at_level("INFO"):
            (cut,), counts = training_rows(tokenizer, table, "", len(whole["input_ids"]) - 1, context, [cited])
        assert (counts["with_context"], counts["with_citation"]) == ((1, 1) if cited == 1 else (0, 0))
        assert (counts["context_cards_left_out"], counts["citations_left_out"]) == ((1, 0) if cited == 1 else (2, 1))
        assert counts["answers_cut"] == 0
        text = tokenizer.decode(cut["input_ids"])
        assert text.rstrip().endswith(f"{kept}{tokenizer.eos_token}") and "Anemia" not in text
        assert ("Gout hurts." in text) == (cited == 1)
        assert ("[1] gout" in text) == bool(sum(cut["citation_mask"])) == (cited == 1)
    assert "citations left out: 1 of 1 rows" in caplog.text


def five_cards():
    """Five training cards in three groups, and their vectors at growing angles."""
    from medcards.search.vectors import Vectors

    angles = np.array([0.0, 0.2, 0.5, 0.9, 1.4])
    questions = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    table = pd.DataFrame({"card_id": list("abcde"), "group": [0, 0, 1, 2, 2], "question": list("ABCDE")})
    table = table.assign(answer=list("PQRST"), split="train", query_set="own")
    empty = np.zeros((0, 2), np.float32)
    ids, none = np.array(list("abcde")), np.zeros(5, np.int32)
    return table, Vectors(np.array([]), empty, none[:0], ids, questions, none, 8)


NEAREST = {
    "A": ["R", "S"],
    "B": ["R", "S"],
    "C": ["Q", "S"],
    "D": ["R", "Q"],
    "E": ["R", "Q"],
}
"""The answers of the two nearest cards of another group, by question."""


def test_context_is_never_of_the_own_group():
    from medcards.search.context import nearest_training_cards

    table, vectors = five_cards()
    assert nearest_training_cards(table, table, vectors, 2) == list(NEAREST.values())


def rows_params(**changes):
    from medcards.search.rows import RowsParams

    given = {"query_sets": ["own"], "train_cards": 9, "validation_cards": 3, "context_share": 0.0, "context_cards": 2}
    return RowsParams(**given | {"relevant_share": 1.0, "perturb": False} | changes)


def no_encoder(questions):
    raise AssertionError("no row has cards in its prompt")


def test_training_rows_are_of_the_query_sets_that_are_taught_and_validation_rows_are_the_decks_own():
    from medcards.search.rows import rows_with_context

    table, vectors = five_cards()
    table["query_set"] = ["own", "own", "layperson", "layperson", "own"]
    table = pd.concat([table, table.assign(card_id=list("fghij"), split="validation")], ignore_index=True)
    for taught, questions in ((["own"], "ABE"), (["layperson"], "CD"), (["own", "layperson"], "ABCDE")):
        train, validation = rows_with_context(table, vectors, no_encoder, rows_params(query_sets=taught), seed=1)
        assert train.question.tolist() == list(questions) and validation.question.tolist() == list("ABE")
    with pytest.raises(InputError, match="rows.query_sets: no training card is of typos; the deck has: own, layperson"):
        rows_with_context(table, vectors, no_encoder, rows_params(query_sets=["typos"]), seed=1)


DISEASES = ("gout", "asthma", "anemia", "sepsis", "scurvy")
ANGLES = dict(zip(DISEASES, (0.0, 0.2, 0.5, 0.9, 1.4), strict=True))
"""The angles of the vectors of questions and answers. All splits have the same questions, and answers of their own."""


def unit(names) -> np.ndarray:
    angles = np.array([ANGLES[name] for name in names])
    return np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)


def encoder_of(**taken_for: str):
    """An encoder that knows the diseases in a question, and takes some for others."""

    def encoder(questions):
        named = [next(name for name in DISEASES if name in question.lower()) for question in questions]
        return unit(taken_for.get(name, name) for name in named)

    return encoder


def three_splits():
    """A deck with five cards in each split, and the vectors of their answers."""
    from medcards.search.vectors import Vectors

    table = pd.DataFrame(
        [
            {"card_id": f"{name} {split}", "question": f"What is {name}?", "answer": f"{name} of {split}"}
            | {"group": name, "concept": "", "query_set": "own", "split": split}
            for split in ("train", "validation", "test")
            for name in DISEASES
        ]
    )
    ids, of_all, tokens = table.card_id.to_numpy(dtype=np.str_), unit(DISEASES * 3), np.ones(15, np.int32)
    return table, Vectors(ids, of_all, tokens, ids, of_all, tokens, 8)


def rows_of(encoder, changed=None, seed=1, **changes) -> pd.DataFrame:
    """The training rows by the disease that is asked for. All have cards in the prompt, unless ``changes`` say so."""
    from medcards.search.rows import ROW_COLUMNS, rows_with_context

    table, vectors = three_splits()
    if changed is not None:
        table = changed(table)
    params = rows_params(**{"context_share": 1.0} | changes)
    train, validation = rows_with_context(table, vectors, encoder, params, seed)
    assert list(train) == list(validation) == ROW_COLUMNS
    assert not validation.context.map(bool).any() and not validation.cited.any()
    return train.set_index(train.card_id.str.split().str[0])


def names_of(context: list[str]) -> list[str]:
    """The diseases of texts, which are answers of the training split."""
    names = [text.split()[0] for text in context]
    assert context == [f"{name} of train" for name in names]
    return names


def test_the_right_card_stands_where_the_search_ranks_it_and_the_answer_is_its():
    """The search takes one disease for another, so their cards are ranked first."""
    rows = rows_of(encoder_of(asthma="gout", scurvy="gout"))
    assert {name: (names_of(row.context), row.cited) for name, row in rows.iterrows()} == {
        "gout": (["gout", "asthma"], 1),
        "asthma": (["gout", "asthma"], 2),
        "anemia": (["anemia", "asthma"], 1),
        "sepsis": (["sepsis", "anemia"], 1),
        "scurvy": ([], 0),  # its card is ranked last, too low for a prompt, so the row stays closed book
    }
    assert rows.answer.tolist() == [f"{name} of train" for name in DISEASES]


@pytest.mark.parametrize(("share", "with_context"), [(0.0, 0), (0.4, 2), (0.8, 4), (1.0, 5)])
def test_a_seeded_share_of_the_rows_has_cards_and_cites_the_right_one(share, with_context):
    encoder = encoder_of() if with_context else no_encoder
    rows = rows_of(encoder, context_share=share)
    assert rows.index.tolist() == list(DISEASES)
    assert rows.context.map(bool).sum() == (rows.cited > 0).sum() == with_context
    for name, row in rows[rows.cited > 0].iterrows():
        assert names_of(row.context)[row.cited - 1] == name and row.answer == f"{name} of train"
    pd.testing.assert_frame_equal(rows, rows_of(encoder, context_share=share))


def test_without_the_right_card_a_row_cites_none():
    rows = rows_of(encoder_of(), relevant_share=0.0)
    assert {name: names_of(row.context) for name, row in rows.iterrows()} == {
        "gout": ["asthma", "anemia"],
        "asthma": ["gout", "anemia"],
        "anemia": ["asthma", "sepsis"],
        "sepsis": ["anemia", "scurvy"],
        "scurvy": ["sepsis", "anemia"],
    }
    assert not rows.cited.any() and rows.answer.tolist() == [f"{name} of train" for name in DISEASES]


@pytest.mark.parametrize(
    ("share", "right", "with_context", "cited"), [(0.4, 0.5, 2, 1), (1.0, 0.8, 5, 4), (1, 0, 5, 0)]
)
def test_a_seeded_share_of_the_rows_with_cards_has_the_right_one(share, right, with_context, cited):
    shares = {"context_share": share, "relevant_share": right}
    rows = rows_of(encoder_of(), **shares)
    assert rows.context.map(bool).sum() == with_context and (rows.cited > 0).sum() == cited
    for name, row in rows[rows.context.map(bool)].iterrows():
        assert (name in names_of(row.context)) == (row.cited > 0) and row.answer == f"{name} of train"
    pd.testing.assert_frame_equal(rows, rows_of(encoder_of(), **shares))


@pytest.mark.parametrize("seed", [1, 42, 43])
def test_rows_with_cards_are_spread_over_the_training(seed):
    """Half of 100 rows have cards. Drawn as the training orders them, they would all come in its first half."""
    from medcards.llm.training import FinetuneParams, training_order
    from medcards.search.rows import rows_with_context
    from medcards.search.vectors import Vectors

    ids = [str(number) for number in range(103)]
    table = pd.DataFrame({"card_id": ids, "group": ids, "question": [f"Q{one}?" for one in ids], "answer": ids})
    table = table.assign(concept="", query_set="own", split=["train"] * 100 + ["validation"] * 3)
    units, tokens = np.eye(103, dtype=np.float32), np.ones(103, dtype=np.int32)
    vectors = Vectors(np.array(ids), units, tokens, np.array(ids), units, tokens, 8)
    params = rows_params(train_cards=100, context_share=0.5)
    train, _ = rows_with_context(table, vectors, lambda asked: units[[int(one[1:-1]) for one in asked]], params, seed)
    finetune = FinetuneParams.model_construct(epochs=1.0, batch_size=4, gradient_accumulation=1)
    order = training_order([1] * 100, finetune, seed)
    with_cards = train.cited.to_numpy()[order] > 0
    assert with_cards.sum() == 50 and 15 <= with_cards[:50].sum() <= 35


def test_no_row_has_cards_where_the_search_finds_none_of_the_right_ones():
    rows = rows_of(encoder_of(gout="scurvy", asthma="scurvy", anemia="gout", sepsis="gout", scurvy="gout"))
    assert not rows.context.map(bool).any() and rows.answer.tolist() == [f"{name} of train" for name in DISEASES]


def test_of_several_right_cards_the_best_one_stands_in_the_prompt():
    """Scurvy is answered as gout is, so both cards are right for both questions."""

    def same_answer(table):
        same = (table.card_id == "scurvy train").to_numpy()
        return table.assign(answer=table.answer.mask(same, "gout of train"))

    rows = rows_of(encoder_of(), same_answer)
    assert rows.context["scurvy"] == ["gout of train", "sepsis of train"]
    assert rows.context["gout"] == ["gout of train", "asthma of train"]
    assert rows.cited["gout"] == 1 and rows.answer["scurvy"] == "gout of train"


def test_a_card_with_the_question_of_the_row_is_right_however_the_question_is_perturbed():
    """Two cards ask about scurvy, with different answers."""

    def same_question(table):
        return table.assign(question=table.question.replace("What is sepsis?", "What is scurvy?"))

    for right, seed in itertools.product((0.0, 1.0), range(4)):
        changes = {"perturb": True, "relevant_share": right}
        rows = rows_of(lambda questions: unit(["scurvy"] * len(questions)), same_question, seed, **changes)
        read = " ".join(rows.context["scurvy"] + rows.context["sepsis"])
        assert "sepsis of train" not in read and read.count("scurvy of train") == 2 * right


def test_no_validation_or_test_card_stands_in_a_training_prompt():
    """All splits have the same questions, so that the search ranks their cards alike."""
    for right in (0.0, 0.5, 1.0):
        rows = rows_of(encoder_of(), context_cards=15, relevant_share=right)
        texts = [text for context in rows.context for text in context]
        assert texts and all(text.endswith(" of train") for text in texts)
        assert all(answer.endswith(" of train") for answer in rows.answer)


def test_a_layperson_question_has_the_card_of_its_concept_and_stays_as_it_is():
    def with_layperson(table):
        table = table.assign(concept=table.group)
        asked = {"card_id": "layperson", "question": "Why does SCURVY hurt?", "answer": "an everyday answer"}
        asked |= {"group": "scurvy", "concept": "scurvy", "query_set": "layperson", "split": "train"}
        return pd.concat([table, pd.DataFrame([asked])], ignore_index=True)

    (row,) = rows_of(encoder_of(), with_layperson, query_sets=["layperson"], perturb=True).itertuples()
    assert row.question == "Why does SCURVY hurt?" and row.card_id == "layperson"
    assert (names_of(row.context), row.cited, row.answer) == (["scurvy", "sepsis"], 1, "scurvy of train")


def test_a_row_with_cards_asks_a_perturbed_question():
    """One of the three perturbations, drawn for each row. The search ranks for the question that is asked."""
    from medcards.search.perturbations import PERTURBATIONS, perturb

    encoded, kinds = [], set()

    def encoder(questions):
        encoded.extend(questions)
        return unit(["gout"] * len(questions))

    for seed in range(4):
        encoded.clear()
        rows = rows_of(encoder, perturb=True, seed=seed, context_share=0.6)
        for name, row in rows.iterrows():
            asked = f"What is {name}?"
            drawn = [kind for kind in PERTURBATIONS if row.question == perturb(kind, asked, seed)]
            assert (drawn and row.question in encoded) if row.context else row.question == asked
            kinds |= set(drawn)
        assert len(encoded) == 5
    assert kinds == set(PERTURBATIONS)


def test_rows_come_back_from_their_file(tokenizer, tmp_path):
    """Parquet gives the lists of texts back as arrays, and empty lists without a type."""
    from medcards.llm.tokenise import training_rows

    for context, cited in (([["Gout hurts."], []], [1, 0]), ([[], []], [0, 0])):
        table = pd.concat([GOUT] * 2, ignore_index=True).assign(context=context, cited=cited)
        table.to_parquet(tmp_path / "rows.parquet", index=False)
        read = pd.read_parquet(tmp_path / "rows.parquet")
        rows, counts = training_rows(tokenizer, read, "", 512, read.context, read.cited)
        expected, counts_before = training_rows(tokenizer, table, "", 512, context, cited)
        assert (rows.to_list(), counts) == (expected.to_list(), counts_before)
