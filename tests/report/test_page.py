"""The page and the reply in a terminal, of an asker without models."""

from concurrent.futures import Future
from pathlib import Path
from types import SimpleNamespace

import pytest

from medcards import InputError
from medcards.answers.asker import NO_ADAPTER, OTHER_DECK, Asker, Reply
from medcards.report.page import load_where_ticked, respond
from medcards.report.replies import reply_as_text
from medcards.search.searcher import Found, Hit

HIT = Hit(1, "ab12", "What is a <cyst>?", "A sac.", "tiny.json", 1.0, {})
QUOTED = "Answer: card 1, quoted. The deck probably has an answer (probability 0.75)."


def page_of(models: list[str], refused: bool = False, remark: str = "", question: str = "a cyst?") -> tuple:
    """What the page shows at last, of an asker whose model writes "[1] A", then "[1] A cyst."."""
    found = Found([HIT], 0.25 if refused else 0.75, refused)
    asker = Asker(SimpleNamespace(find=lambda *_: found), set(), Path("absent"), "search_open")
    asker.remark, asker._manifest = remark, None if remark == NO_ADAPTER else {}
    asker._words = lambda *_: iter([(HIT, "A"), (HIT, "A cyst.")])
    loading: Future = Future()
    loading.set_result(asker)
    *_, last = respond(loading, question, models, 3, "all")
    return last


def test_the_page_quotes_a_card_and_shows_words_where_asked():
    note, cards, *boxes = page_of([])
    assert note == QUOTED and boxes == ["[1] A sac.", "", ""]
    assert '<div class="card cited"><b>1. What is a &lt;cyst&gt;?</b>' in cards and "read by the model" not in cards
    note, cards, *boxes = page_of(["base"])
    assert note == QUOTED and boxes == ["[1] A sac.", "", "[1] A cyst."] and 'class="card cited read"' in cards


def test_the_page_says_that_the_deck_has_no_answer():
    note, cards, *boxes = page_of([], refused=True)
    assert note == "The deck probably has no answer (probability of an answer: 0.25)." and "cited" not in cards
    assert boxes == ["The deck probably has no answer.", "", ""] and "A sac." in cards
    note, _, *boxes = page_of(["tuned"], refused=True)
    assert note.startswith("The deck probably has no") and boxes[1] == "[1] A cyst."


def test_the_page_keeps_what_it_shows_where_a_question_is_empty():
    assert page_of([], question=" ") == ("the question is empty: ask something", None, None, None, None)


def test_the_page_says_what_is_wrong_with_the_adapter():
    """Where the tuned model answers; the base model has none."""
    assert page_of(["tuned"], remark=OTHER_DECK)[0] == f"{QUOTED} {OTHER_DECK}"
    note, _, *boxes = page_of(["tuned", "base"], remark=NO_ADAPTER)
    assert note == QUOTED and boxes[1:] == [NO_ADAPTER, "[1] A cyst."]
    assert page_of([], remark=OTHER_DECK)[0] == QUOTED
    assert page_of(["base"], remark=OTHER_DECK)[0] == QUOTED


def test_the_language_model_is_loaded_at_the_first_tick():
    """A question then says what is wrong with the model."""
    loaded, loading = [], Future()

    def load_model():
        loaded.append("model")
        raise InputError("there is no model")

    loading.set_result(SimpleNamespace(load_model=load_model))
    load_where_ticked(loading, [])
    assert loaded == []
    load_where_ticked(loading, ["base"])
    assert loaded == ["model"]


@pytest.mark.parametrize(
    ("served", "remark", "quotes"),
    [("search_open", "", True), ("lora_rag_open", OTHER_DECK, True), ("lora_rag_open", "", False)],
)
def test_the_asker_quotes_where_no_words_are_served(served, remark, quotes):
    """Only then the page starts without the language model."""
    asker = Asker(None, set(), Path("absent"), served)
    asker.remark = remark
    assert asker.quotes is quotes


def test_a_terminal_gets_no_control_characters_of_a_model():
    reply = Reply("What is a cyst?", "A\x1b[2J\x07 cyst", "tuned", None, 0.75, False, [HIT])
    assert reply_as_text(reply, 80).startswith("A[2J cyst\n")
