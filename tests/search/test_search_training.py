"""Training for the search: pairs, negatives, the adapted bi-encoder, and the cross-encoder."""

from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tiny
from search_material import deck, random_units, unit

from medcards import InputError
from medcards.base.files import write_hashes
from medcards.base.manifests import write_manifest
from medcards.deck.cards import corpus
from medcards.search.cross_encoder import load_scorer
from medcards.search.encoder import embed_cards, load_encoder
from medcards.search.encoder_training import freeze, little_padding
from medcards.search.exact import exact_search
from medcards.search.negatives import hard_negatives, training_pairs
from medcards.search.projection import train_projection
from medcards.search.vectors import Vectors


@pytest.fixture(scope="module")
def cards() -> pd.DataFrame:
    return deck()


def test_training_questions_are_paired_with_what_is_searched(cards):
    answers = corpus(cards)
    pairs = training_pairs(cards, answers, 999, seed=0).set_index("card_id")
    assert set(pairs.index) == set(cards.card_id[cards.split == "train"])
    assert pairs.row["c5"] == 5 and pairs.row["c58"] == 0 and pairs.row["c59"] == 1
    assert len(training_pairs(cards, answers, 7, seed=0)) == 7
    with pytest.raises(InputError, match="no training question"):
        training_pairs(cards[cards.split == "test"], answers, 7, seed=0)


def with_vectors(cards: pd.DataFrame, answers: np.ndarray, questions: np.ndarray) -> Vectors:
    """The vectors of cards, of which only the first answers are searched; a question per card."""
    ids, counts = cards.card_id.to_numpy(dtype=np.str_), np.zeros(len(cards))
    return Vectors(ids[: len(answers)], answers, counts, ids, questions, counts, 8)


def test_hard_negatives_are_wrong_near_and_from_training(cards):
    answers = corpus(cards)
    pairs = training_pairs(cards, answers, 999, seed=0)
    found = random_units(58, 8)
    found[3] = found[4]  # near-duplicates of each other
    vectors = with_vectors(cards, found, found[cards.index % 58])
    negatives = hard_negatives(pairs, answers, vectors, 3, seed=0)
    assert negatives.shape == (len(pairs), 3)
    assert negatives.max() < 40  # rows 40 to 57 are test cards
    for row, wrong in zip(pairs.row, negatives, strict=True):
        assert row not in wrong and len(set(wrong)) == 3
        assert not (row in (3, 4) and {3, 4} & set(wrong.tolist()))
    with pytest.raises(InputError, match="no 40 wrong answers"):
        hard_negatives(pairs, answers, vectors, 40, seed=0)


def test_hard_negatives_equal_those_of_brute_force(cards, monkeypatch):
    """With as many hardest candidates as negatives, the draw takes all of them."""
    monkeypatch.setattr("medcards.search.negatives.HARDEST", 4)
    answers = corpus(cards).assign(answer=lambda table: table.answer.where(table.index != 7, table.answer[6]))
    found, asked = random_units(58, 8), random_units(60, 8)[::-1].copy()
    found[12] = unit(found[11:12] + 0.01)[0]
    pairs = training_pairs(cards, answers, 999, seed=0)
    negatives = hard_negatives(pairs, answers, with_vectors(cards, found, asked), 4, seed=0)
    place = {name: number for number, name in enumerate(cards.card_id)}
    for card_id, row, wrong in zip(pairs.card_id, pairs.row, negatives, strict=True):
        order = sorted(range(58), key=lambda other: -(asked[place[card_id]] @ found[other]))[:50]
        same_text = {6, 7} if row in (6, 7) else {row}
        right = same_text | {other for other in range(58) if found[other] @ found[row] >= 0.95}
        assert set(wrong.tolist()) == set([other for other in order if other < 40 and other not in right][:4])


def test_hard_negatives_fill_up_at_random(cards, monkeypatch):
    monkeypatch.setattr("medcards.search.negatives.MINING_DEPTH", 1)
    answers, found = corpus(cards), random_units(58, 8)
    pairs = training_pairs(cards, answers, 999, seed=0)
    negatives = hard_negatives(pairs, answers, with_vectors(cards, found, found[cards.index % 58]), 3, seed=0)
    assert negatives.max() < 40 and (negatives != pairs.row.to_numpy()[:, None]).all()
    assert all(len(set(wrong)) == 3 for wrong in negatives.tolist())


def test_freeze(tmp_path):
    folder = tiny.make_encoder(tmp_path, layers=3)
    encoder = load_encoder(folder)
    freeze(encoder, 2)
    trained = {name for name, weight in encoder.named_parameters() if weight.requires_grad}
    assert trained and all(".encoder.layer.2." in name for name in trained)
    free = load_encoder(folder)
    freeze(free, 0)
    assert all(weight.requires_grad for weight in free.parameters())
    with pytest.raises(InputError, match="frozen_layers=3: the bi-encoder has 3 layers"):
        freeze(load_encoder(folder), 3)


@pytest.fixture
def no_near_duplicates(monkeypatch):
    """Under an untrained encoder all texts are near-duplicates; other tests check that these are left out."""
    monkeypatch.setattr("medcards.search.negatives.SAME_ANSWER", 1.1)


def adapted(folder, cards, scratch, **changes):
    from medcards.search.adaptation import AdaptParams, adapt

    given = {"projection_epochs": 0, "questions": 0, "negatives": 1, "epochs": 25.0, "batch_size": 16} | changes
    params = AdaptParams(enabled=True, learning_rate=0.003, frozen_layers=0, max_tokens=64, **given)
    encoder = load_encoder(folder)
    before = embed_cards(encoder, cards)
    shards, facts = adapt(encoder, cards, before, params, 1, scratch)
    (after,) = shards
    encoder.save(str(scratch / "model"), create_model_card=False)
    return before, after, facts


@pytest.mark.parametrize(
    "way", [{"questions": 99}, {"projection_epochs": 400}, {"questions": 99, "projection_epochs": 50}]
)
def test_adaptation_brings_questions_to_their_answers(way, cards, tmp_path, no_near_duplicates):
    folder = tiny.make_encoder(tmp_path / "encoder")
    before, after, facts = adapted(folder, cards, tmp_path / "scratch", **way)
    assert set(facts) == {{"questions": "fine_tuning", "projection_epochs": "projection"}[step] for step in way}
    for step in facts.values():
        assert step["questions"] == 42 and step["last_loss"] < step["first_loss"]

    def right(vectors):
        rows, _ = exact_search(vectors.questions[:40], vectors.answers, 1)
        return (rows[:, 0] == np.arange(40)).mean()

    assert right(after) > right(before) + 0.2
    again = adapted(folder, cards, tmp_path / "again", **way)[1]
    assert np.array_equal(again.answers, after.answers)
    read_again = embed_cards(load_encoder(tmp_path / "scratch/model"), cards)
    assert np.allclose(read_again.answers, after.answers, atol=1e-5)
    assert np.allclose(read_again.questions, after.questions, atol=1e-5)


@contextmanager
def killed_after_checkpoints(count: int):
    """The training inside the block ends after this number of checkpoints."""
    written = []

    def write_and_end(folder: Path) -> None:
        write_hashes(folder)
        written.append(folder)
        if len(written) == count:
            raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("medcards.base.checkpoints.write_hashes", write_and_end)
        yield


def test_an_adaptation_that_was_killed_resumes(cards, tmp_path, no_near_duplicates, caplog):
    """With the vectors and the losses of an unbroken one, bit by bit."""
    folder, way = tiny.make_encoder(tmp_path / "encoder"), {"questions": 99, "epochs": 8.0}
    _, whole, facts = adapted(folder, cards, tmp_path / "whole", **way)
    with killed_after_checkpoints(2):
        adapted(folder, cards, tmp_path / "broken", **way)
    caplog.set_level("INFO", "medcards")
    _, resumed, facts_again = adapted(folder, cards, tmp_path / "broken", **way)
    assert "training resumes from the checkpoint of step" in caplog.text
    assert facts == facts_again and np.array_equal(whole.answers, resumed.answers)


@pytest.mark.parametrize(
    "equal",
    [{"answer": ["Yes.", "yes", "Yes!"]}, {"question": ["Why?", "why", "Why"]}, {"concept": ["T:1"] * 3}],
    ids=str,
)
def test_the_projection_does_not_separate_relevant_answers(equal):
    """Three cards have one answer, one question or one concept, and one vector. If their answers counted as wrong for
    each other, the loss could not fall below log 3."""
    rows = {"card_id": list("abcd"), "split": "train", "concept": ["", "", "", "T:2"]}
    rows |= {side: [f"{side} {number}" for number in range(4)] for side in ("question", "answer")}
    table = pd.DataFrame(rows | {column: [*values, "other"] for column, values in equal.items()})
    rows = unit(np.array([[1, 0.1], [1, 0.1], [1, 0.1], [0.1, 1]], dtype=np.float32))
    ids, counts = table.card_id.to_numpy(dtype=np.str_), np.zeros(4)
    vectors = Vectors(ids, rows, counts, ids, rows, counts, 8)
    _, losses = train_projection(table.assign(row=range(4)), table, vectors, epochs=200, seed=0)
    assert losses[-1] < 0.01


def test_the_transformer_reads_a_batch_in_parts_with_equal_results(tmp_path):
    """Vectors and gradients are those of the whole padded batch."""
    import torch

    encoder = load_encoder(tiny.make_encoder(tmp_path / "encoder", layers=2)).eval()
    features = encoder.preprocess(["one two", "one", "one two three four five six seven", "two three"])

    def read():
        encoder.zero_grad()
        vectors = encoder(dict(features))["sentence_embedding"]
        vectors[:, 0].sum().backward()
        return vectors.detach(), encoder[0].auto_model.embeddings.word_embeddings.weight.grad.clone()

    whole, gradient = read()
    with pytest.MonkeyPatch.context() as patch, little_padding(encoder[0]):
        patch.setattr("medcards.search.encoder_training.BATCH_TOKENS", 12)
        parts, gradient_of_parts = read()
    assert torch.allclose(parts, whole, atol=1e-6) and torch.allclose(gradient_of_parts, gradient, atol=1e-6)
    assert "forward" not in vars(encoder[0])


def test_the_transformer_reads_texts_that_are_padded_on_the_left_as_they_are(tmp_path):
    import torch

    encoder = load_encoder(tiny.make_encoder(tmp_path / "encoder")).eval()
    encoder.tokenizer.padding_side = "left"
    features = encoder.preprocess(["one two", "one two three four five six seven"])
    assert features["attention_mask"][0, 0] == 0
    whole = encoder(dict(features))["sentence_embedding"]
    with little_padding(encoder[0]):
        assert torch.equal(encoder(dict(features))["sentence_embedding"], whole)


def test_a_cross_encoder_learns_and_comes_back(cards, tmp_path, no_near_duplicates):
    import torch

    from medcards.search.cross_encoder_training import RerankerParams, train_reranker, training_lists

    folder = tiny.make_encoder(tmp_path / "encoder")
    params = RerankerParams(
        model="train",
        questions=99,
        negatives=3,
        epochs=20.0,
        batch_size=8,
        learning_rate=0.003,
        frozen_layers=0,
        max_tokens=32,
    )

    def trained(scratch: str):
        encoder = load_encoder(folder)
        lists = training_lists(cards, embed_cards(encoder, cards), params, seed=1)
        assert len(lists["question"]) == 40 and set(map(len, lists["answers"])) == {4}
        return train_reranker(encoder, lists, params, 1, tmp_path / scratch)

    model, loss = trained("scratch")
    assert len(loss) == 100  # 40 questions, 8 per step, 20 epochs
    assert loss[-10:].mean() < 0.8 * loss[:10].mean()
    model.save(str(tmp_path / "made/model"))
    write_manifest(tmp_path / "made", "path:encoder")
    scorer = load_scorer(tmp_path / "made", batch_tokens=64)
    pairs = [(cards.question[0], cards.answer[0]), (cards.question[0], cards.answer[1]), ("a", "b")]
    assert scorer(pairs) == pytest.approx(model.predict(pairs, activation_fn=torch.nn.Identity()), abs=1e-5)
    long = [(cards.question[0], "gout " * count) for count in (40, 41)]  # training is cut at 32 tokens, scoring is not
    assert scorer(long)[0] != scorer(long)[1]
    with killed_after_checkpoints(3):
        trained("broken")
    resumed, loss_again = trained("broken")
    assert np.array_equal(resumed.predict(pairs), model.predict(pairs)) and loss.equals(loss_again)

    weights = next((tmp_path / "made/model").rglob("*.safetensors"))
    weights.write_bytes(weights.read_bytes()[:-4] + b"\0\0\0\1")
    with pytest.raises(InputError, match="is not what .*manifest.json says"):
        load_scorer(tmp_path / "made", batch_tokens=64)


def test_a_cross_encoder_of_ones_own(tmp_path):

    write_manifest(tmp_path / "none", "none")
    assert load_scorer(tmp_path / "none", batch_tokens=64) is None
    model = tiny.make_reranker(tmp_path / "model")
    write_manifest(tmp_path / "own", f"path:{model}")
    scorer = load_scorer(tmp_path / "own", batch_tokens=64)
    scores = scorer([("what is gout", "a fever"), ("what is gout", "asthma"), ("a", "b")])
    assert np.shape(scores) == (3,)
    assert scores[0] == pytest.approx(scorer([("what is gout", "a fever")])[0], abs=1e-5)


def test_a_model_is_a_folder(tmp_path):

    (tmp_path / "model.safetensors").touch()
    with pytest.raises(InputError, match="a model is a folder"):
        write_manifest(tmp_path / "own", f"path:{tmp_path}/model.safetensors")


def test_loss_curve_of_nothing_has_a_header_only():
    from medcards.search.cross_encoder_training import loss_curve

    assert loss_curve(pd.Series(dtype=float)).columns.tolist() == ["step", "loss", "smoothed"]
    curve = loss_curve(pd.Series([4.0, 2.0]))
    assert curve.to_numpy().tolist() == [[1, 4, 4], [2, 2, 3]]
