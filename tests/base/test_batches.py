"""Token-budget batches."""

from medcards.base.batches import token_batches


def test_a_batch_holds_similar_lengths_within_the_budget():
    assert token_batches([5, 1, 4, 5, 2], budget=10) == [[0, 3], [2, 4], [1]]


def test_a_text_longer_than_the_budget_is_a_batch_of_its_own():
    assert token_batches([3, 20, 3], budget=6) == [[1], [0, 2]]


def test_no_texts_make_no_batches():
    assert token_batches([], budget=10) == []
