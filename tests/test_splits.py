"""What belongs together, the split, and the attack on it."""

import unicodedata

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_deck import raw

from medcards import InputError
from medcards.deck.cards import clean
from medcards.deck.leakage import character_vectors, nearest_training, random_training
from medcards.deck.splits import draw_concepts, group_cards, near_duplicates, split_by_group

FILLER = [(f"What is thing{n}?", f"It is explained by fact{n} alone.") for n in range(300)]


def grouped(*rows, threshold=0.6, join_share=0.005, stop_share=0.02, **columns) -> pd.DataFrame:
    """Clean cards of these rows, with their groups."""
    cards, _, _ = clean(raw(*rows, **columns))
    pairs = near_duplicates(cards, threshold, seed=0)
    return cards.assign(group=group_cards(cards, pairs, join_share, stop_share))


def same(cards: pd.DataFrame, *questions: str) -> bool:
    """Whether the cards of these questions are all in one group."""
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
        ("Beta gamma delta epsilon zeta?", "2"),  # a chain: neighbours share four of six words,
        ("Gamma delta epsilon zeta eta?", "3"),
        ("Delta epsilon zeta eta theta?", "4"),  # the ends two of eight
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


def test_a_template_is_no_likeness():
    """All questions share two of three words, which are a template; two ask for the same thing."""
    rows = [(f"What is thing{n}?", f"answer{n}") for n in range(300)]
    cards = grouped(*rows, ("Now what is a thing7?", "other words"))
    assert cards.group.nunique() == 300
    assert same(cards, "What is thing7?", "Now what is a thing7?")


def test_answers_alone_make_near_duplicates():
    text = "a long answer with many words that nobody would write twice by chance in a deck"
    cards = grouped(*FILLER, ("First?", text + " once"), ("Second?", text + " twice"))
    assert same(cards, "First?", "Second?")


def test_similarity_is_exact_and_at_least_the_threshold():
    cards, _, _ = clean(
        raw(*FILLER, ("red blue green white", "1"), ("red blue green pink", "2"), ("red blue green white grey", "3"))
    )
    pairs = near_duplicates(cards, 0.6, seed=0)
    found = {(cards.question[i], cards.question[j]): s for i, j, s in pairs.itertuples(index=False)}
    assert found == {
        ("red blue green white", "red blue green white grey"): 0.8,
        ("red blue green white", "red blue green pink"): 0.6,
    }


def test_one_concept_is_one_group():
    concepts = ["HP:9", "HP:9"] + [""] * 30
    cards = grouped(("A?", "x"), ("B?", "y"), *FILLER[:30], concept=concepts)
    assert cards.group.tolist()[:2] == ["HP:9", "HP:9"]
    assert (cards.group[2:] == cards.card_id[2:]).all()


def test_a_family_of_near_duplicates_forms_groups_of_limited_size():
    """Each of 200 cards is a near-duplicate of the next: one component, but no group above 1% of 2,000 cards."""
    words = [f"w{n}" for n in range(210)]
    chain = [(" ".join(words[n : n + 10]), f"reply{n}") for n in range(200)]
    filler = [(f"thing{n} other{n} words{n}", f"fact{n}") for n in range(1800)]
    cards = grouped(*chain, *filler, join_share=0.01)
    sizes = cards.group.value_counts()
    assert sizes.iloc[0] <= 20
    assert (sizes[cards.group[:200].unique()] > 1).all()


def test_too_large_a_group_stops_with_one_line():
    rows = [(f"thing{n} other{n}?", "Yes.") for n in range(30)]
    with pytest.raises(InputError, match=r"30 of 330 cards form one group, .*raise prepare.stop_share=0.02") as error:
        grouped(*FILLER, *rows)
    assert "\n" not in str(error.value)
    assert grouped(*FILLER, *rows, stop_share=0.1).group.value_counts().iloc[0] == 30
    assert grouped(*FILLER, *rows[:20]).group.value_counts().iloc[0] == 20  # so few are no mistake in any deck


def test_a_deck_of_one_answer_stops():
    with pytest.raises(InputError, match="100 of 100 cards form one group"):
        grouped(*[(f"thing{n}", "Yes") for n in range(100)])


@pytest.mark.parametrize("text", ["这是什么病{}？", "Τι είναι η νόσος{};", "ما هو المرض{}؟", "?!{}", "🩺 {} 🩺"])
def test_other_scripts(text):
    rows = [(text.format(n), f"№{n}") for n in range(60)]
    cards = grouped(*rows, (text.format(7) + " ", "again"))
    assert same(cards, text.format(7))
    assert cards.group.nunique() == 60


def test_long_texts_and_long_decks_of_one_word():
    long = ["word " * 50_000 + str(n) for n in range(2)]
    cards = grouped(*FILLER, ("Long?", long[0]), ("Longer?", long[1]))
    assert cards.group.nunique() == len(FILLER) + 2  # they share one of three words


def cards_of(groups: list[int], lengths: list[int]) -> pd.DataFrame:
    answers = ["x" * length for length in lengths]
    return pd.DataFrame({"group": [f"g{group}" for group in groups], "answer": answers, "query_set": "own"})


def test_split_keeps_groups_whole_and_shares_right():
    cards = cards_of(np.repeat(np.arange(500), 2).tolist(), list(range(1, 1001)))
    split = split_by_group(cards, 0.1, 0.2, seed=1)
    assert split.groupby(cards.group).nunique().max() == 1
    assert split.value_counts().to_dict() == pytest.approx({"train": 700, "test": 200, "validation": 100}, abs=2)
    assert split.equals(split_by_group(cards, 0.1, 0.2, seed=1))
    assert not split.equals(split_by_group(cards, 0.1, 0.2, seed=2))


@pytest.mark.parametrize("seed", range(5))
def test_splits_look_alike(seed):
    """2,000 cards in groups of 1 to 40, skewed lengths, two query sets: sizes, sets and quartiles agree."""
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


def test_too_small_to_split():
    with pytest.raises(InputError, match="too small to split: 6 cards in 2 groups"):
        split_by_group(cards_of([0, 0, 0, 1, 1, 1], [1] * 6), 0.1, 0.1, seed=0)


def test_draw_takes_whole_concepts():
    table = pd.DataFrame({"concept": ["a", "b", "b", "c", "c", "c", ""], "card_id": list("tuvwxyz")})
    drawn = draw_concepts(table, 4, seed=0)
    assert 1 <= len(drawn) <= 4
    whole = table.concept.value_counts()
    assert all(count == whole[concept] for concept, count in drawn.concept.value_counts().items())


TEXTS = st.lists(
    st.sampled_from(["a", "b", "C", "β", "糖", "\x00", "\u200b", " ", "\n", "?", "1", "e", "\u0301"]), max_size=6
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.tuples(TEXTS.map("".join), TEXTS.map(" ".join)), min_size=1, max_size=60), st.integers(0, 99))
def test_any_deck(rows, seed):
    """Whatever is read: counts add up, cards are clean, and no group, and no equal text, straddles splits."""
    try:
        cards, counts, examples = clean(raw(*rows))
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
    cards["group"] = group_cards(cards, pairs, 0.005, 1)
    try:
        cards["split"] = split_by_group(cards, 0.2, 0.2, seed)
    except InputError:
        return
    for column in ("group", "question", "answer"):
        assert cards.groupby(column).split.nunique().max() == 1
    assert cards.split.value_counts().sum() == len(cards)


# The attack on the split.


def test_the_nearest_training_card_is_found_and_is_never_the_card_itself():
    vectors = np.eye(4, dtype=np.float32)
    vectors[3] = [0.6, 0.8, 0, 0]
    similarity, nearest = nearest_training(vectors, np.array([3, 2]), np.array([True, True, True, False]))
    assert nearest.tolist()[0] == 1
    assert similarity.tolist() == pytest.approx([0.8, 0.0])  # card 2 is in the training mask, and not its own neighbour


def test_random_training_is_a_seeded_draw():
    drawn = random_training(100, 80, seed=1)
    assert drawn.sum() == 80
    assert (drawn == random_training(100, 80, seed=1)).all() and (drawn != random_training(100, 80, seed=2)).any()


def test_the_audit_finds_a_planted_leak():
    """30 of 100 test questions get a copy with a typing error among the training cards: the audit counts 30."""
    from stages.audit import attack, attack_all, deal_again, leaked

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
    similarities, nearest = attack(cards, {"bi-encoder": vectors, "characters": character_vectors(texts)}, seed=0)
    assert nearest.tolist()[:30] == [str(n) for n in range(100, 130)]
    shares = leaked(cards, similarities, seed=0)
    for encoder in ("bi-encoder", "characters"):
        assert shares["group"][encoder]["leaked@0.9"]["mean"] == pytest.approx(0.3)
        # A split at random keeps seven of ten cards of such a pair among the training cards, and so leaks less here.
        assert shares["group-random"][encoder]["leaked@0.9"]["lo"] > 0
    # Groups that are single cards are dealt out at random, so the way of splitting is as good as random.
    deals = deal_again(cards, seed=0)
    assert len(deals) == 10 and len({tuple(deal) for deal in deals}) == 10
    again = leaked(cards, attack_all(cards, deals, vectors, seed=0), seed=0)
    difference = again["group-random"]["bi-encoder"]["leaked@0.9"]
    assert difference["lo"] < 0 < difference["hi"] and difference["n"] > 250
