"""Near-duplicate groups, the split by group, and the leakage that the audit measures."""

import unicodedata

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_deck import raw

from medcards import InputError
from medcards.deck.cards import clean
from medcards.deck.description import count_duplicates
from medcards.deck.leakage import (
    character_vectors,
    leaked_shares,
    nearest_training,
    new_splits,
    random_training,
    similarity_in_splits,
    similarity_to_training,
)
from medcards.deck.similar_sets import similar_sets
from medcards.deck.splits import group_cards, near_duplicates, sample_concepts, split_by_group

FILLER = [(f"What is thing{n}?", f"It is explained by fact{n} alone.") for n in range(300)]


def grouped(*rows, threshold=0.6, join_share=0.005, **columns) -> pd.DataFrame:
    """Clean cards of the given rows, with their groups."""
    cards, _, _ = clean([raw(*rows, **columns)])
    pairs = near_duplicates(cards, threshold, seed=0)
    return cards.assign(group=group_cards(cards, pairs, join_share))


def same(cards: pd.DataFrame, *questions: str) -> bool:
    """Whether the cards of the given questions are all in one group."""
    return cards.set_index("question").group[list(questions)].nunique() == 1


def test_planted_duplicates_paraphrases_and_chains_are_grouped():
    cards = grouped(
        *FILLER,
        ("What is anaemia of chronic disease?", "Low iron in blood despite full stores."),
        ("what is ANAEMIA of chronic disease", "Something else."),  # the same question
        ("Name the iron disorder.", "low iron in blood, despite full stores"),  # the same answer
        ("How is severe acute asthma treated at home?", "By inhaling salbutamol."),
        ("How is acute asthma treated at home now?", "Salbutamol, inhaled."),  # a paraphrase
        ("Alpha beta gamma delta epsilon?", "1"),
        ("Beta gamma delta epsilon zeta?", "2"),  # a chain: neighbours share four of six words
        ("Gamma delta epsilon zeta eta?", "3"),
        ("Delta epsilon zeta eta theta?", "4"),  # the ends of the chain share two of eight words
    )
    assert same(
        cards,
        "What is anaemia of chronic disease?",
        "what is ANAEMIA of chronic disease",
        "Name the iron disorder.",
    )
    assert same(cards, "How is severe acute asthma treated at home?", "How is acute asthma treated at home now?")
    assert same(cards, "Alpha beta gamma delta epsilon?", "Delta epsilon zeta eta theta?")
    assert not same(cards, "Alpha beta gamma delta epsilon?", "Name the iron disorder.")
    assert cards.group.nunique() == len(FILLER) + 3


def test_the_template_of_questions_makes_no_near_duplicates():
    """All questions share two of three words, which form a template. Two questions ask for the same thing."""
    rows = [(f"What is thing{n}?", f"answer{n}") for n in range(300)]
    cards = grouped(*rows, ("Now what is a thing7?", "other words"))
    assert cards.group.nunique() == 300
    assert same(cards, "What is thing7?", "Now what is a thing7?")


def test_answers_alone_make_near_duplicates():
    text = "a long answer with many words that two cards share only if one was copied from the other"
    cards = grouped(*FILLER, ("First?", text + " once"), ("Second?", text + " twice"))
    assert same(cards, "First?", "Second?")


def test_similarity_is_exact_and_at_least_the_threshold():
    cards, _, _ = clean(
        [raw(*FILLER, ("red blue green white", "1"), ("red blue green pink", "2"), ("red blue green white grey", "3"))]
    )
    pairs = near_duplicates(cards, 0.6, seed=0)
    found = {(cards.question[i], cards.question[j]): s for i, j, s in pairs.itertuples(index=False)}
    assert found == {
        ("red blue green white", "red blue green white grey"): 0.8,
        ("red blue green white", "red blue green pink"): 0.6,
    }


@pytest.fixture
def families() -> list[frozenset]:
    """400 sets of 8 to 20 words, in families that share most of their words, and some sets twice."""
    rng = np.random.default_rng(0)
    parents = [rng.choice(500, 20, replace=False) for _ in range(40)]
    sets = [frozenset(f"w{word}" for word in rng.choice(parents[n % 40], rng.integers(8, 21))) for n in range(390)]
    return sets + sets[:10]


def test_similar_sets_are_those_of_a_full_comparison(families):
    distinct = list(dict.fromkeys(families))
    places = [families.index(words) for words in distinct]
    similar = {
        (places[i], places[j]): len(distinct[i] & distinct[j]) / len(distinct[i] | distinct[j])
        for j in range(len(distinct))
        for i in range(j)
    } | {(n, 390 + n): 1.0 for n in range(10)}
    found = {(i, j): similarity for i, j, similarity in similar_sets(families, 0.5, 0).itertuples(index=False)}
    assert all(similarity == similar[pair] >= 0.5 for pair, similarity in found.items())
    assert {pair for pair, similarity in similar.items() if similarity >= 0.75} <= found.keys()
    assert len(found) > 0.9 * sum(similarity >= 0.5 for similarity in similar.values())


def test_similar_sets_in_small_blocks(families, monkeypatch):
    whole = similar_sets(families, 0.5, 0)
    monkeypatch.setattr("medcards.deck.similar_sets.PAIR_BLOCK", 20)
    order = ["second", "first"]
    pd.testing.assert_frame_equal(
        similar_sets(families, 0.5, 0).sort_values(order, ignore_index=True),
        whole.sort_values(order, ignore_index=True),
    )


def test_a_set_is_compared_with_few_that_agree(monkeypatch):
    """60 sets of the words a and b, and one more word each: each similarity is 0.5. One band may agree in all."""
    sets = [{"a", "b", f"w{number}"} for number in range(60)]
    monkeypatch.setattr("medcards.deck.similar_sets.AGREEING", 1)
    found = similar_sets(sets, 0.5, 0)
    assert 59 <= len(found) < 60 * 59 / 2 and set(found.similarity) == {0.5}
    monkeypatch.setattr("medcards.deck.similar_sets.AGREEING", 60)
    assert len(similar_sets(sets, 0.5, 0)) > len(found)


def test_similar_sets_keeps_the_most_similar(families, monkeypatch):
    whole = similar_sets(families, 0.5, 0).query("second < 390")
    monkeypatch.setattr("medcards.deck.similar_sets.NEIGHBOURS", 2)
    few = similar_sets(families, 0.5, 0).query("second < 390")
    assert few.second.value_counts().max() == 2 < whole.second.value_counts().max()
    for place, kept in few.groupby("second"):
        assert sorted(kept.similarity) == sorted(whole[whole.second == place].similarity)[-len(kept) :]


def test_one_concept_is_one_group():
    concepts = ["HP:9", "HP:9"] + [""] * 30
    cards = grouped(("A?", "x"), ("B?", "y"), *FILLER[:30], concept=concepts)
    assert cards.group.tolist()[:2] == ["HP:9", "HP:9"]
    assert (cards.group[2:] == cards.card_id[2:]).all()


def test_a_family_of_near_duplicates_forms_groups_of_limited_size():
    """Each of 200 cards is a near-duplicate of the next, but no group holds more than 1% of the 2,000 cards."""
    words = [f"w{n}" for n in range(210)]
    chain = [(" ".join(words[n : n + 10]), f"reply{n}") for n in range(200)]
    filler = [(f"thing{n} other{n} words{n}", f"fact{n}") for n in range(1800)]
    cards = grouped(*chain, *filler, join_share=0.01)
    sizes = cards.group.value_counts()
    assert sizes.iloc[0] <= 20
    assert (sizes[cards.group[:200].unique()] > 1).all()


@pytest.mark.parametrize(("filler", "count", "groups"), [(600, 20, 1), (600, 21, 21), (190, 10, 1), (190, 11, 11)])
def test_a_stock_answer_ties_no_cards(filler, count, groups):
    """20 cards may form a group in any deck. An answer of more cards, or of more than 5% of them, is a stock answer."""
    many = [(f"What is thing{n}?", f"It is explained by fact{n} alone.") for n in range(filler)]
    cards = grouped(*many, *[(f"thing{n} other{n}?", "Autosomal recessive.") for n in range(count)])
    assert cards.group[filler:].nunique() == groups


def test_a_long_stock_answer_makes_no_near_duplicates():
    listed = "Fatigue, nausea, jaundice, itching, fever, anorexia, pruritus, oedema."
    cards = grouped(*FILLER, *[(f"Signs of illness{n} type{n}?", listed) for n in range(200)], threshold=0.5)
    assert cards.group[300:].nunique() == 200


def test_equal_answers_do_not_grow_a_group_beyond_its_limit():
    """15 cards ask one question, 15 another. The answer that two of them share would join 30."""
    rows = [("What is gout?", f"fact{n} of{n} gout{n}") for n in range(14)] + [("What is gout?", "A disease.")]
    rows += [("What is asthma?", f"thing{n} about{n} asthma{n}") for n in range(14)] + [
        ("What is asthma?", "A disease.")
    ]
    cards = grouped(*FILLER, *rows)
    assert cards.group[300:].value_counts().tolist() == [15, 15]


def test_a_deck_of_stock_answers_is_split():
    cards = grouped(*[(f"Is thing{n} other{n} inherited?", ("Yes.", "No.")[n % 2]) for n in range(100)])
    split = split_by_group(cards, 0.1, 0.1, seed=0)
    assert split.value_counts().to_dict() == {"train": 80, "validation": 10, "test": 10}


def test_a_deck_of_one_question_is_an_error_that_names_it():
    cards = grouped(*[("What is this?", f"fact{n} of{n}") for n in range(100)])
    with pytest.raises(InputError, match=r"100 cards in 1 groups .*a group of 100 cards, such as 'What is this\?'"):
        split_by_group(cards, 0.1, 0.1, seed=0)


@pytest.mark.parametrize("text", ["这是什么病{}？", "Τι είναι η νόσος{};", "ما هو المرض{}؟", "?!{}", "🩺 {} 🩺"])
def test_groups_in_other_scripts(text):
    rows = [(text.format(n), f"№{n}") for n in range(60)]
    cards = grouped(*rows, (text.format(7) + " ", "again"))
    assert same(cards, text.format(7))
    assert cards.group.nunique() == 60


def test_groups_of_very_long_texts():
    long = ["word " * 50_000 + str(n) for n in range(2)]
    cards = grouped(*FILLER, ("Long?", long[0]), ("Longer?", long[1]))
    assert cards.group.nunique() == len(FILLER) + 2  # the two questions with answers share one of three words


def cards_of(groups: list[int], lengths: list[int]) -> pd.DataFrame:
    answers = ["x" * length for length in lengths]
    return pd.DataFrame({"group": [f"g{group}" for group in groups], "answer": answers, "query_set": "own"})


def test_split_keeps_groups_whole_and_meets_the_shares():
    cards = cards_of(np.repeat(np.arange(500), 2).tolist(), list(range(1, 1001)))
    split = split_by_group(cards, 0.1, 0.2, seed=1)
    assert split.groupby(cards.group).nunique().max() == 1
    assert split.value_counts().to_dict() == pytest.approx({"train": 700, "test": 200, "validation": 100}, abs=2)
    assert split.equals(split_by_group(cards, 0.1, 0.2, seed=1))
    assert not split.equals(split_by_group(cards, 0.1, 0.2, seed=2))


@pytest.mark.parametrize("seed", range(5))
def test_splits_agree_in_size_query_sets_and_answer_lengths(seed):
    """2,000 cards in groups of 1 to 40 cards, with skewed answer lengths and two query sets."""
    rng = np.random.default_rng(seed)
    groups = np.repeat(np.arange(600), rng.zipf(1.7, 600).clip(max=40))[:2000]
    groups = np.concatenate([groups, np.arange(1000, 3000 - len(groups))])
    cards = cards_of(groups.tolist(), rng.lognormal(4, 1, len(groups)).astype(int).clip(1).tolist())
    cards.loc[rng.random(len(cards)) < 0.3, "query_set"] = "layperson"
    split = split_by_group(cards, 0.1, 0.1, seed)
    shares = split.value_counts(normalize=True)
    assert shares.to_dict() == pytest.approx({"train": 0.8, "validation": 0.1, "test": 0.1}, abs=0.005)
    lay = (cards.query_set == "layperson").groupby(split).mean()
    assert lay.max() - lay.min() < 0.03
    quarter = pd.qcut(cards.answer.str.len().rank(method="first"), 4, labels=False)
    of_split = pd.crosstab(split, quarter, normalize="index")
    assert (of_split.max() - of_split.min()).max() < 0.04


def test_a_deck_too_small_to_split_is_an_error():
    with pytest.raises(InputError, match="too small to split: 6 cards in 2 groups"):
        split_by_group(cards_of([0, 0, 0, 1, 1, 1], [1] * 6).assign(question="Why?"), 0.1, 0.1, seed=0)


def test_draw_concepts_takes_whole_concepts():
    table = pd.DataFrame({"concept": ["a", "b", "b", "c", "c", "c", ""], "card_id": list("tuvwxyz")})
    drawn = sample_concepts(table, 4, seed=0)
    assert 1 <= len(drawn) <= 4
    whole = table.concept.value_counts()
    assert all(count == whole[concept] for concept, count in drawn.concept.value_counts().items())


TEXTS = st.lists(
    st.sampled_from(["a", "b", "C", "β", "糖", "\x00", "\u200b", " ", "\n", "?", "1", "e", "\u0301"]), max_size=6
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.tuples(TEXTS.map("".join), TEXTS.map(" ".join)), min_size=1, max_size=60), st.integers(0, 99))
def test_any_deck_is_cleaned_grouped_and_split(rows, seed):
    """For any deck, counts add up, cards are clean, and each group and each question lies in one split."""
    try:
        cards, counts, examples = clean([raw(*rows)])
    except InputError:
        blank = " \n\x00\u200b"
        assert all(not question.strip(blank) or not answer.strip(blank) for question, answer in rows)
        return
    dropped = {name: count for name, count in counts.items() if name.startswith("dropped_")}
    assert counts["rows_read"] == len(rows) == sum(dropped.values()) + counts["kept"]
    assert counts["kept"] == len(cards) == cards.card_id.nunique()
    shown = examples.reason.value_counts()
    assert all(shown.get(name, 0) == min(count, 5) for name, count in counts.items() if name in dropped)
    for side in (cards.question, cards.answer):
        assert side.map(lambda text: unicodedata.is_normalized("NFC", text)).all()
        assert (side.str.len() > 0).all() and (side.map(lambda text: " ".join(text.split())) == side).all()
    pairs = near_duplicates(cards, 0.6, seed)
    cards["group"] = group_cards(cards, pairs, 0.005)
    try:
        cards["split"] = split_by_group(cards, 0.2, 0.2, seed)
    except InputError:
        return
    for column in ("group", "question"):
        assert cards.groupby(column).split.nunique().max() == 1
    assert cards.split.value_counts().sum() == len(cards)


# Leakage.


def test_nearest_training_card_is_never_the_card_itself():
    vectors = np.eye(4, dtype=np.float32)
    vectors[3] = [0.6, 0.8, 0, 0]
    masks = [np.array([True, True, True, False]), np.array([True, False, True, True])]
    (similarity, nearest), (other, first) = nearest_training(vectors, np.array([3, 2]), masks)
    assert nearest.tolist() == [1, 0]
    assert similarity.tolist() == pytest.approx([0.8, 0.0])  # card 2 is in both training masks
    assert first.tolist() == [0, 0] and other.tolist() == pytest.approx([0.6, 0.0])


def test_a_large_test_split_is_sampled(monkeypatch):
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(100, 8)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    cards = pd.DataFrame({"card_id": [f"card{n}" for n in range(100)], "split": ["test"] * 50 + ["train"] * 50})
    every, _ = similarity_to_training(cards, {"bi-encoder": vectors}, seed=0)
    monkeypatch.setattr("medcards.deck.leakage.MOST_TESTED", 20)
    sampled, nearest = similarity_to_training(cards, {"bi-encoder": vectors}, seed=0)
    assert len(every) == 50 and len(sampled) == len(nearest) == 20 and sampled.index.is_unique
    assert np.allclose(sampled, every.loc[sampled.index])


def test_random_training_depends_on_the_seed():
    drawn = random_training(100, 80, seed=1)
    assert drawn.sum() == 80
    assert (drawn == random_training(100, 80, seed=1)).all() and (drawn != random_training(100, 80, seed=2)).any()


def test_leaked_shares_find_planted_copies():
    """30 of 100 test answers have a copy with one changed character among the training cards."""
    rng = np.random.default_rng(0)
    letters = np.array(list("abcdefghijklmnopqrstuvwxyz"))
    texts = ["".join(rng.choice(letters, 60)) for _ in range(500)]
    vectors = rng.normal(size=(500, 64)).astype(np.float32)
    for copy, original in zip(range(100, 130), range(30), strict=True):
        texts[copy] = texts[original][:-1] + "?"
        vectors[copy] = vectors[original] + 0.02 * rng.normal(size=64)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    split = ["test"] * 100 + ["train"] * 350 + ["validation"] * 50
    names = [str(n) for n in range(500)]
    cards = pd.DataFrame({"card_id": names, "group": names, "split": split, "answer": texts, "query_set": "own"})
    encoders = {"bi-encoder": vectors, "characters": character_vectors(texts)}
    similarities, nearest = similarity_to_training(cards, encoders, seed=0)
    assert nearest.tolist()[:30] == [str(n) for n in range(100, 130)]
    shares = leaked_shares(cards, similarities, seed=0)
    for encoder in ("bi-encoder", "characters"):
        assert shares["group"][encoder]["leaked@0.9"]["mean"] == pytest.approx(0.3)
        # In a random split, 70% of the copies are training cards, so fewer cards leak.
        assert shares["group-random"][encoder]["leaked@0.9"]["lo"] > 0
    # Each group is a single card here, so new splits by group leak as much as random splits.
    splits = new_splits(cards, seed=0)
    assert len(splits) == 10 and len({tuple(split) for split in splits}) == 10
    again = leaked_shares(cards, similarity_in_splits(cards, splits, {"bi-encoder": vectors}, seed=0), seed=0)
    difference = again["group-random"]["bi-encoder"]["leaked@0.9"]
    assert difference["lo"] < 0 < difference["hi"] and difference["n"] > 250


def test_a_deck_like_medquad_is_grouped_and_split():
    """Long answers, and a third of the questions with one of three stock answers (after Ben Abacha and
    Demner-Fushman, 2019): prepare, and what the audit says of the stock answers."""
    random = np.random.default_rng(0)
    vocabulary = np.array([f"word{n}" for n in range(4000)])
    rows = []
    for n in range(600):
        name = f"disorder{n} type{n % 7}"
        stock = ("Autosomal recessive inheritance.", "Autosomal dominant inheritance.", "The inheritance is unknown.")
        rows.append((f"How is {name} inherited?", stock[n % 3]))
        rows.append((f"What are the symptoms of {name}?", " ".join(random.choice(vocabulary, 140))))
        rows.append((f"What is {name}?", " ".join(random.choice(vocabulary, 90))))
    cards = grouped(*rows, threshold=0.5)
    assert cards.group.value_counts().iloc[0] <= 20
    cards["split"] = split_by_group(cards, 0.1, 0.1, seed=0)
    assert cards.split.value_counts()["test"] == pytest.approx(180, abs=3)
    counts = count_duplicates(cards, near_duplicates(cards, 0.5, seed=0))
    assert counts["cards_with_equal_answer_in_another_group"] == 600
    tested = ((cards.split == "test") & cards.question.str.startswith("How")).sum()
    assert counts["test_cards_with_equal_answer_in_training"] == tested > 30
