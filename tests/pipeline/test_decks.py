"""Decks of all shapes run to the end. Each has 60 cards of its own kind, and the search finds one of them."""

import json

import pytest
import tiny
from conftest import Repository

from medcards.search import Searcher

EXPLORED_AND_SEARCHED = (
    *("models", "prepare", "embed", "adapt", "audit", "eda", "index", "rerank_train", "rerank_eval"),
)
ORGANS = ("liver", "kidney", "heart", "lung", "brain", "skin", "eye", "ear", "bone", "joint", "nerve", "colon")
SIGNS = ("fever", "pain", "cough", "rash", "itching", "cramps", "pallor", "fatigue", "bleeding", "swelling")
ASKED = 17
"""Number of the card that the search must find."""


def question(number: int) -> str:
    return (
        f"Which illness of the {ORGANS[number % 12]} begins with {SIGNS[number % 10]}, word{number} and term{number}?"
    )


def answer(number: int) -> str:
    return (
        f"Disorder{number} of the {ORGANS[number % 12]}, with {SIGNS[(number + 3) % 10]} in {number} of 100 patients."
    )


CARDS = [(question(number), answer(number)) for number in range(60)]


def table(separator: str, cards: list, head: tuple[str, str] = ("question", "answer")) -> str:
    quoted = [[f'"{text}"' for text in row] for row in (head, *cards)]
    return "".join(f"{separator.join(row)}\n" for row in quoted)


def anki(cards: list) -> str:
    head = "#separator:tab\n#html:true\n#notetype column:1\n#tags column:4\n"
    return head + "".join(f"Basic\t{asked}\t<div><b>{said}</b><br></div>\ttag\n" for asked, said in cards)


def records(cards: list, asked: str = "question", said: str = "answer") -> list[dict]:
    return [{asked: one, said: other} for one, other in cards]


def chats(cards: list) -> list[dict]:
    return [
        {"messages": [{"role": "user", "content": one}, {"role": "assistant", "content": other}]}
        for one, other in cards
    ]


def lines(rows: list[dict]) -> str:
    return "\n".join(json.dumps(row) for row in rows)


def squad(cards: list) -> str:
    asked = [{"question": one, "answers": [{"text": other, "answer_start": 0}]} for one, other in cards]
    return json.dumps({"data": [{"title": "t", "paragraphs": [{"context": "c", "qas": asked}]}]})


CHINESE = [
    (f"{a}部{b}应首先考虑什么疾病？", f"应考虑{a}的{b}性疾病，可由第{number}项检查确诊。")
    for number, (a, b) in enumerate(
        (a, b)
        for a in "肝肾心肺脑皮"
        for b in ("感染", "毒素", "外伤", "梗阻", "缺血", "过敏", "变异", "炎症", "出血", "肿瘤")
    )
]
STOCK = [(asked, ("Yes.", "No.", "Autosomal recessive.")[number % 3]) for number, (asked, _) in enumerate(CARDS)]
ONE_WORD = [(asked, f"drug{chr(97 + number % 26)}{number}in") for number, (asked, _) in enumerate(CARDS)]
SUPERSCRIPTS = [(asked, f"{said} Platelets below {number} × 10⁹/L ①.") for number, (asked, said) in enumerate(CARDS)]
LONG = [(asked, " ".join([said] * 40)) for asked, said in CARDS]
MEDQUAD = [(STOCK if number % 3 == 0 else LONG)[number] for number in range(60)]
SIGNS_ONLY = [(asked, "ABCDE"[number % 5]) for number, (asked, _) in enumerate(CARDS)]

DECKS: dict[str, tuple[str, str | bytes, list]] = {
    "semicolons in cp1252": (
        "deck.csv",
        table(
            ";", [*CARDS[:-1], ("Was ist die Störung?", "Größe der Füße, ähnlich groß.")], ("Frage", "Antwort")
        ).encode("cp1252"),
        CARDS,
    ),
    "tabs": ("deck.tsv", table("\t", CARDS), CARDS),
    "Excel in UTF-16": ("deck.csv", ("sep=;\r\n" + table(";", CARDS, ("0", "1"))).encode("utf-16"), CARDS),
    "notes of Anki": ("notes.txt", anki(CARDS), CARDS),
    "HTML": ("deck.csv", table(",", [(f"<p>{one}</p>", f"<b>{other}</b>&nbsp;") for one, other in CARDS]), CARDS),
    "alpaca": (
        "deck.json",
        json.dumps([{"instruction": one, "input": "", "output": other} for one, other in CARDS]),
        CARDS,
    ),
    "chats": ("deck.jsonl", lines(chats(CARDS)), CARDS),
    "SQuAD": ("deck.json", squad(CARDS), CARDS),
    "lists": ("deck.jsonl", lines([{"question": one, "answer": [other, "else"]} for one, other in CARDS]), CARDS),
    "Chinese": ("deck.jsonl", lines(records(CHINESE)), CHINESE),
    "stock answers": ("deck.csv", table(",", STOCK), STOCK),
    "one word": ("deck.csv", table(",", ONE_WORD), ONE_WORD),
    "superscripts": ("deck.csv", table(",", SUPERSCRIPTS), SUPERSCRIPTS),
    "long answers": ("deck.jsonl", lines(records(LONG)), LONG),
    "stock answers and long ones": ("deck.jsonl", lines(records(MEDQUAD)), MEDQUAD),
    "letters": ("deck.csv", table(",", SIGNS_ONLY), SIGNS_ONLY),
}
"""Name of a deck: its file, the file's content, and its cards."""


@pytest.fixture(scope="module")
def ready(repository) -> Repository:
    """The tiny repository, in which no deck makes models for the search of its own: each would be exported."""
    repository.set_params(**tiny.PARAMS | {"reranker__model": "path:models/reranker/tiny", "adapt__enabled": False})
    repository.set_params(data__question_column="auto", data__answer_column="auto", eda__min_document_frequency=20)
    return repository


def put(repository: Repository, name: str) -> list:
    file, content, cards = DECKS[name]
    for old in (repository.folder / "decks").glob("*.*"):
        old.unlink()
    path = repository.folder / "decks" / file
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    repository.set_params(data__path=f"decks/{file}")
    return cards


def assert_searchable(repository: Repository, cards: list) -> None:
    """The deck is whole, and a card is found by its answer: the models of the tests know nothing."""
    assert repository.figures("prepare")["cards"] == len(cards)
    assert repository.figures("prepare")["splits"]["test"]["cards"] >= 3
    hits = Searcher.load(repository.folder / "data").search(cards[ASKED][1], k=3)
    assert cards[ASKED][1] in [hit.answer for hit in hits]


@pytest.mark.parametrize("name", DECKS)
def test_a_deck_of_any_shape_is_explored_and_searched(ready, name):
    cards = put(ready, name)
    for stage in EXPLORED_AND_SEARCHED:
        ready.run_here(stage)
    assert_searchable(ready, cards)


@pytest.mark.long
@pytest.mark.parametrize("name", DECKS)
def test_a_deck_of_any_shape_runs_to_the_end_through_dvc(ready, name):
    cards = put(ready, name)
    ready.run("dvc", "repro")
    assert_searchable(ready, cards)
    assert ready.metrics("summary")["cards"] == len(cards)
