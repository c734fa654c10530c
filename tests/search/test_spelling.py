"""Spelling of a question, corrected by the words of the deck."""

import string

import numpy as np
import pytest

from medcards.search.spelling import Spelling

TEXTS = [
    "Gout is an arthritis of the joints.",
    "Arachnodactyly: abnormally long fingers.",
    "Ménière's disease: vertigo and tinnitus. MELAS is mitochondrial.",
    "cases cases caves; 痛风 is gout; straße",
]


@pytest.fixture(scope="module")
def spelling() -> Spelling:
    return Spelling(TEXTS)


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("artthritis", "arthritis"),  # a letter is added
        ("arthrtis", "arthritis"),  # one is left out
        ("arthrotis", "arthritis"),  # one is wrong
        ("arthrtiis", "arthritis"),  # two are swapped
        ("rthritis", "arthritis"),
        ("arthritiss", "arthritis"),
        ("méniére", "ménière"),
        ("vertgio", "vertigo"),
        ("straßße", "straße"),
    ],
)
def test_a_word_with_one_typo_is_corrected(spelling, typed, meant):
    assert spelling.corrected(typed) == meant
    assert spelling.corrected(f"What is ({typed})?") == f"What is ({meant})?"


@pytest.mark.parametrize("typed", ["arhtrits", "artrtis", "arthritisss", "abcdefgh"])
def test_a_word_with_more_than_one_typo_stays(spelling, typed):
    assert spelling.corrected(typed) == typed


@pytest.mark.parametrize("typed", ["MELAT", "GOUTT", "ARTHRTIS"])
def test_capitals_stay(spelling, typed):
    assert spelling.corrected(typed) == typed


@pytest.mark.parametrize("apostrophe", ["'", "’"])
def test_words_with_an_apostrophe_stay(apostrophe):
    """Their parts look like words with one typo: "couldn" like "could"."""
    spelling = Spelling(["It could hurt as an arthritis did. They were there, and it has the rest."])
    for typed in ("couldn't", "didn't", "weren't", "Hasn't", "they're", "arthrtis's"):
        typed = typed.replace("'", apostrophe)
        assert spelling.corrected(f"It {typed} arthrtis?") == f"It {typed} arthritis?"
    quoted = f"Is {apostrophe}arthrtis{apostrophe} it?"
    assert spelling.corrected(quoted) == quoted.replace("arthrtis", "arthritis")


def test_a_word_that_begins_with_a_capital_is_corrected(spelling):
    assert spelling.corrected("Arthrtis") == "arthritis"


@pytest.mark.parametrize("typed", ["gou", "gut", "lon", "x", "iss"])
def test_short_words_stay(spelling, typed):
    assert spelling.corrected(typed) == typed


@pytest.mark.parametrize("typed", ["finger", "joint", "Joint", "case", "abnormal", "disease's"])
def test_other_forms_of_a_known_word_stay(spelling, typed):
    assert spelling.corrected(typed) == typed


@pytest.mark.parametrize("typed", ["gout", "Gout", "what", "fingers"])
def test_known_words_and_stop_words_stay(spelling, typed):
    assert spelling.corrected(typed) == typed


def test_the_most_frequent_of_several_words_is_taken():
    """Both words are one letter away. Of equally frequent ones the last in the alphabet is taken."""
    assert Spelling(["liver", "lover lover"]).corrected("lxver") == "lover"
    assert Spelling(["liver liver", "lover"]).corrected("lxver") == "liver"
    assert Spelling(["liver lover"]).corrected("lxver") == Spelling(["lover liver"]).corrected("lxver") == "lover"


STAY = ["", " ", "?!", "42", "什么是痛风?", "痛风", "a_b", "strasse", "İstanbul", "\ud800", "x" * 10_000]


@pytest.mark.parametrize("question", STAY)
def test_a_question_without_a_misspelt_word_of_the_deck_stays(spelling, question):
    assert spelling.corrected(question) == question


@pytest.mark.parametrize("texts", [[], [""], ["42 ?"], ["of the"]])
def test_a_deck_without_words_corrects_nothing(texts):
    assert Spelling(texts).corrected("What is arthrtis?") == "What is arthrtis?"


def test_random_strings_do_not_crash_and_keep_what_is_no_word(spelling):
    random = np.random.default_rng(0)
    letters = np.array(list(string.printable + "éßİı痛风\u0301\u200d\U0001f600"))
    known = [*"gout arthritis fingers joints".split()]
    for number in range(10_000):
        text = "".join(random.choice(letters, random.integers(0, 12)))
        if number % 2:
            word = known[number % len(known)]
            place = int(random.integers(len(word)))
            text = f"{word[:place]}{text[:1]}{word[place + 1 :]} {text}"
        found = spelling.corrected(text)
        assert [letter for letter in found if not letter.isalpha()] == [
            letter for letter in text if not letter.isalpha()
        ], text


def test_a_deck_that_lacks_a_text_does_not_know_its_words():
    """The opposite finding is one letter away. A word that another text holds too stays known."""
    spelling = Spelling(["Define Macrodontia.", "Large teeth.", "Define Microdontia.", "Small teeth.", "Macro teeth."])
    assert spelling.corrected("Define Macrodontia.") == "Define Macrodontia."
    assert spelling.corrected("Define Macrodontia.", ["Define Macrodontia."]) == "Define microdontia."
    assert spelling.corrected("macro teeth", ["Macro teeth.", "Large teeth."]) == "macro teeth"
    assert spelling.corrected("tteeth", ["Large teeth.", "Small teeth.", "Macro teeth."]) == "tteeth"
