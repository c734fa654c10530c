"""Vectors of cards: encoding, saving, loading, and which of them the search uses."""

from functools import partial

import numpy as np
import pandas as pd
import pytest
import tiny
from search_material import deck

from medcards import InputError
from medcards.base.manifests import write_manifest
from medcards.search.encoder import (
    check_encoder,
    embed_cards,
    encode_answers,
    encode_questions,
    in_token_batches,
    load_encoder,
    token_counts,
    unknown_share,
)
from medcards.search.vectors import Vectors, save_vectors, search_vectors


def test_vectors_are_saved_and_checked(tmp_path):
    folder = tiny.make_encoder(tmp_path / "encoder")
    table = pd.DataFrame(tiny.deck(6)).rename(columns={"input": "question", "output": "answer"})
    table = table.assign(card_id=list("abcdef"), query_set=["own"] * 5 + ["layperson"])
    encoder = load_encoder(folder)
    vectors = embed_cards(encoder, table, batch_tokens=64)
    assert vectors.answers.shape == (5, 32) and vectors.questions.shape == (6, 32)
    assert vectors.answers.dtype == np.float32
    assert np.linalg.norm(vectors.questions, axis=1) == pytest.approx(np.ones(6), abs=1e-5)
    alone = encode_questions(encoder, [table.question[4]])
    assert vectors.questions_of(["e"])[0] == pytest.approx(alone[0], abs=1e-5)
    assert vectors.max_tokens == 64
    assert vectors.question_tokens_of(["e"]).tolist() == [vectors.question_tokens[4]]
    long = table.assign(answer="asthma " * 500)
    counted = embed_cards(encoder, long, batch_tokens=64)
    assert counted.answer_tokens.tolist() == [502] * 5  # one token per word, and the two special tokens

    save_vectors([vectors], tmp_path / "saved")
    assert Vectors.load(tmp_path / "saved", table).answer_ids.tolist() == list("abcde")
    with pytest.raises(InputError, match="belongs to other cards"):
        Vectors.load(tmp_path / "saved", table[:4])
    np.save(tmp_path / "saved/answers-00001.npy", vectors.answers + 1)
    with pytest.raises(InputError, match="not what its manifest says"):
        Vectors.load(tmp_path / "saved", table)


TEXTS = [*deck().answer[:20], "asthma " * 500, "gout"]
"""Short texts, and one that is cut at 64 tokens."""


def test_vectors_are_those_of_sentence_transformers(tmp_path):
    """Without prompts, and with a prompt for queries and one for documents."""
    model = load_encoder(tiny.make_encoder(tmp_path))
    for prompts in ({}, {"query": "fever: ", "document": "rest: "}):
        model.prompts = {"query": "", "document": ""} | prompts
        for encode, alone in ((encode_questions, model.encode_query), (encode_answers, model.encode_document)):
            expected = [alone(text, normalize_embeddings=True) for text in TEXTS]
            assert encode(model, TEXTS, batch_tokens=200) == pytest.approx(np.array(expected), abs=1e-5)


def test_vectors_of_a_model_without_prompts_are_the_bytes_of_its_encode(tmp_path):
    model = load_encoder(tiny.make_encoder(tmp_path))

    def read(model, batch: list[str]) -> np.ndarray:
        return model.encode(batch, batch_size=len(batch), normalize_embeddings=True)

    expected = in_token_batches(read, model, TEXTS, np.minimum(token_counts(model, TEXTS), 64), 200)
    for encode in (encode_questions, encode_answers):
        assert encode(model, TEXTS, 200).tobytes() == expected.tobytes()


def test_vectors_of_another_encoder_are_refused(tmp_path):
    cards = deck()
    one = load_encoder(tiny.make_encoder(tmp_path / "one"))
    other = load_encoder(tiny.make_encoder(tmp_path / "other", seed=1))
    vectors = embed_cards(one, cards)
    check_encoder(vectors, partial(encode_questions, one), cards)
    with pytest.raises(InputError, match="not those of the encoder"):
        check_encoder(vectors, partial(encode_questions, other), cards)


def test_search_vectors_are_the_adapted_ones_where_there_are_any(tmp_path):
    cards = deck()
    unadapted = embed_cards(load_encoder(tiny.make_encoder(tmp_path / "one")), cards)
    adapted = embed_cards(load_encoder(tiny.make_encoder(tmp_path / "other", seed=1)), cards)
    save_vectors([unadapted], tmp_path / "data/vectors")
    write_manifest(tmp_path / "data/encoder", f"path:{tmp_path}/one")
    assert np.array_equal(search_vectors(tmp_path / "data", cards).answers, unadapted.answers)
    tiny.make_encoder(tmp_path / "data/encoder/model", seed=1)
    save_vectors([adapted], tmp_path / "data/encoder/vectors")
    write_manifest(tmp_path / "data/encoder", f"path:{tmp_path}/one")
    assert np.array_equal(search_vectors(tmp_path / "data", cards).answers, adapted.answers)


def test_the_share_of_unknown_tokens_is_that_of_whole_texts(tmp_path):
    """A tokenizer keeps how it cut and padded the last texts."""
    model = load_encoder(tiny.make_encoder(tmp_path))
    texts = ["asthma " * 99 + "漢", "asthma"]
    tokenizer = model.tokenizer.backend_tokenizer
    fresh = unknown_share(tokenizer, texts)
    encode_questions(model, texts)
    assert fresh == unknown_share(tokenizer, texts) == 1 / 101
