"""Training rows: sampled cards, their context, and their tokens."""

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

    rows, _ = training_rows(tokenizer, GOUT, "Be brief.", 128, [["Gout hurts."]])
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
    assert whole.index("Be brief.") < whole.index("- Gout hurts.") < whole.index("What is gout?")


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
    whole, counts = training_rows(tokenizer, table, "", 500, context)
    lengths = [len(ids) for ids in whole["input_ids"]]
    assert counts["rows"] == 3 and counts["with_context"] == 1 and counts["tokens"] == sum(lengths)
    assert not any(counts[what] for what in ("context_cards_left_out", "answers_cut", "left_out"))

    with caplog.at_level("INFO"):
        cut, counts = training_rows(tokenizer, table, "", lengths[1] - 1, context)
    assert (counts["context_cards_left_out"], counts["answers_cut"], counts["with_context"]) == (1, 0, 1)
    assert "context cards left out: 1 of 3 rows" in caplog.text
    assert len(cut[1]["input_ids"]) < lengths[1]

    cut, counts = training_rows(tokenizer, table, "", lengths[0] - 1, context)
    assert counts["answers_cut"] == 3 and counts["with_context"] == 0
    assert cut[0]["input_ids"] == whole[0]["input_ids"][:-1]
    with pytest.raises(InputError, match="finetune.max_length=3 tokens leave no room"):
        training_rows(tokenizer, table, "", 3)


def five_cards():
    """Five training cards in three groups, and their vectors at growing angles."""
    from medcards.search.vectors import Vectors

    angles = np.array([0.0, 0.2, 0.5, 0.9, 1.4])
    questions = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    table = pd.DataFrame({"card_id": list("abcde"), "group": [0, 0, 1, 2, 2], "question": list("ABCDE")})
    table = table.assign(answer="x", split="train", query_set="own")
    empty = np.zeros((0, 2), np.float32)
    ids, none = np.array(list("abcde")), np.zeros(5, np.int32)
    return table, Vectors(np.array([]), empty, none[:0], ids, questions, none, 8)


NEAREST = {
    "A": ["C x", "D x"],
    "B": ["C x", "D x"],
    "C": ["B x", "D x"],
    "D": ["C x", "B x"],
    "E": ["C x", "B x"],
}
"""The two nearest cards of another group, by question."""


def test_context_is_never_of_the_own_group():
    from medcards.search.context import nearest_training_cards

    table, vectors = five_cards()
    assert nearest_training_cards(table, table, vectors, 2) == list(NEAREST.values())


def rows_params(**changes):
    from medcards.search.rows import RowsParams

    given = {"query_sets": ["own"], "train_cards": 9, "validation_cards": 3, "context_share": 0.0, "context_cards": 2}
    return RowsParams(**given | changes)


def test_training_rows_are_of_the_query_sets_that_are_taught_and_validation_rows_are_the_decks_own():
    from medcards.search.rows import rows_with_context

    table, vectors = five_cards()
    table["query_set"] = ["own", "own", "layperson", "layperson", "own"]
    table = pd.concat([table, table.assign(card_id=list("fghij"), split="validation")], ignore_index=True)
    for taught, questions in ((["own"], "ABE"), (["layperson"], "CD"), (["own", "layperson"], "ABCDE")):
        train, validation = rows_with_context(table, vectors, rows_params(query_sets=taught), seed=1)
        assert train.question.tolist() == list(questions) and validation.question.tolist() == list("ABE")
    with pytest.raises(InputError, match="rows.query_sets: no training card is of typos; the deck has: own, layperson"):
        rows_with_context(table, vectors, rows_params(query_sets=["typos"]), seed=1)


@pytest.mark.parametrize(("share", "count"), [(0.0, 0), (0.4, 2), (1.0, 5)])
def test_a_seeded_share_of_the_training_rows_has_context(share, count):
    from medcards.search.rows import rows_with_context

    table, vectors = five_cards()
    table = pd.concat([table, table.assign(card_id=list("fghij"), split="validation")], ignore_index=True)
    params = rows_params(context_share=share)
    train, validation = rows_with_context(table, vectors, params, seed=1)
    assert list(train) == list(validation) == ["card_id", "question", "answer", "group", "context"]
    assert train.question.tolist() == list("ABCDE") and len(validation) == 3
    assert train.context.map(bool).sum() == count and not validation.context.map(bool).any()
    for row in train.itertuples():
        assert row.context in ([], NEAREST[row.question])
    again, _ = rows_with_context(table, vectors, params, seed=1)
    pd.testing.assert_frame_equal(train, again)


def test_rows_come_back_from_their_file(tokenizer, tmp_path):
    """Parquet gives the lists of texts back as arrays, and empty lists without a type."""
    from medcards.llm.tokenise import training_rows

    for context in ([["Gout hurts."], []], [[], []]):
        table = pd.concat([GOUT] * 2, ignore_index=True).assign(context=context)
        table.to_parquet(tmp_path / "rows.parquet", index=False)
        read = pd.read_parquet(tmp_path / "rows.parquet")
        rows, counts = training_rows(tokenizer, read, "", 128, read.context)
        expected, counts_before = training_rows(tokenizer, table, "", 128, context)
        assert (rows.to_list(), counts) == (expected.to_list(), counts_before)
