"""The question and the answer in a row of a deck: which columns hold them, and how a cell becomes a text."""

import numbers
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from operator import itemgetter

import numpy as np
import pandas as pd

from medcards import InputError

QUESTION_COLUMNS = ("question", "input", "front", "prompt", "query", "term", "instruction", "frage", "vorderseite")
ANSWER_COLUMNS = ("answer", "answers", "output", "back", "response", "completion", "definition", "antwort", "rückseite")
"""Usual names of the columns of a deck, in the order in which they are looked for."""
CHAT_COLUMNS = ("messages", "conversations")
"""Usual names of a column of chats."""
AUTO = "auto"
"""The name that stands for: find the column."""
CONSTANT_SHARE = 0.5
"""Alpaca's instructions are the questions if more than this share of them differ, or of the inputs are empty."""
_SPEAKERS = {"user": "user", "human": "user", "assistant": "assistant", "gpt": "assistant", "model": "assistant"}


class CardReader:
    """Reads the question and the answer of each row of a deck, table by table.

    Parameters
    ----------
    tables : the cells of the deck as they were read. The first table tells the columns. A deck in the format of Alpaca
        is read to its end, see :func:`_repeats`.
    question, answer : names of columns; :data:`AUTO` to look for them.
    where : what an error calls the deck.

    Raises
    ------
    InputError : a column is missing or not found.
    """

    def __init__(self, tables: Iterable[pd.DataFrame], question: str, answer: str, where: str):
        self._where, self._rows, self._counts = where, 0, Counter()
        self._whole_chat = False
        self._sides: dict[str, Callable[[pd.DataFrame], pd.Series]] = {}
        self._rules: dict[str, str] = {}
        self._find_sides(iter(tables), question, answer)

    @property
    def facts(self) -> dict[str, object]:
        """How the tables were read.

        ``question`` and ``answer`` say which rule found them. Counts of rows: ``several_questions`` and
        ``several_answers``, whose first text was taken; ``several_turns``, see :func:`_turn_of`.
        """
        return self._rules | {name: count for name, count in self._counts.items() if count}

    def read(self, cells: pd.DataFrame) -> pd.DataFrame:
        """The cards of the next table: texts in the columns ``question`` and ``answer``, empty for a missing value.

        Raises
        ------
        InputError : a cell is no text.
        """
        cards = {}
        for side, of in self._sides.items():
            values = of(cells)
            where = f"{self._where}: column '{values.name}'"
            cards[side] = list(_texts(values, side, self._whole_chat, self._counts, where, self._rows))
        self._rows += len(cells)
        return pd.DataFrame(cards, dtype=object)

    def _find_sides(self, tables: Iterator[pd.DataFrame], question: str, answer: str) -> None:
        """Find the columns of both sides, and the rules that found them."""
        cells = next(tables, None)
        if cells is None:
            raise InputError(f"{self._where}: holds no row")
        names = {str(column).strip().lower(): column for column in reversed(cells.columns)}
        chats = [names[name] for name in CHAT_COLUMNS if name in names and question == answer == AUTO]
        if chats:
            self._whole_chat = True
            self._sides = dict.fromkeys(("question", "answer"), itemgetter(chats[0]))
            self._rules = {"question": f"first user's turn in '{chats[0]}'", "answer": f"first answer in '{chats[0]}'"}
            return
        asked, said = _columns(cells, names, question, answer, self._where)
        self._sides = {"question": itemgetter(asked), "answer": itemgetter(said)}
        self._rules = {"question": f"column '{asked}'", "answer": f"column '{said}'"}
        if question == AUTO and {"instruction", "input", "output"} <= set(names):
            instruction, given = names["instruction"], names["input"]
            if _repeats((table[instruction], table[given]) for table in chain([cells], tables)):
                self._sides["question"] = itemgetter(given)
                self._rules["question"] = "column 'input', since 'instruction' repeats"
            else:
                self._sides["question"] = lambda cells: _followed(cells[instruction], cells[given])
                self._rules["question"] = "column 'instruction', followed by 'input' where it is filled"


def _columns(cells: pd.DataFrame, names: dict, question: str, answer: str, where: str) -> tuple[object, object]:
    """The columns of both sides: the given ones, else the first of the usual names, else what two columns leave."""
    columns, found = list(cells.columns), []
    for side, given, usual in (("question", question, QUESTION_COLUMNS), ("answer", answer, ANSWER_COLUMNS)):
        exact = [column for column in columns if str(column) == given]
        if given != AUTO and not exact:
            raise InputError(f"{where}: has no column '{given}' (found: {_named(columns)}); set data.{side}_column")
        hits = exact if given != AUTO else [names[name] for name in usual if name in names]
        found.append(hits[0] if hits else None)
    if len(columns) == 2 and None in found:
        known = next((column for column in found if column is not None), None)
        rest = [column for column in columns if known is None or column != known]
        found = [rest.pop(0) if column is None else column for column in found]
    for side, column, usual in zip(("question", "answer"), found, (QUESTION_COLUMNS, ANSWER_COLUMNS), strict=True):
        if column is None:
            raise InputError(
                f"{where}: has no column that is called {' or '.join(usual)} (found: {_named(columns)}); "
                f"set data.{side}_column"
            )
    if found[0] == found[1]:
        raise InputError(
            f"{where}: data.question_column and data.answer_column are both '{found[0]}': name two columns"
        )
    return found[0], found[1]


def _named(columns: list) -> str:
    return ", ".join(map(str, columns)) or "none"


def _repeats(tables: Iterable[tuple[pd.Series, pd.Series]]) -> bool:
    """Whether a deck in the format of Alpaca (Taori et al., 2023) gives most rows the same instruction and an input.

    Then ``input`` is the question. In other decks, ``instruction`` is the question, followed by ``input``.
    """
    different, filled, rows = set(), 0, 0
    for instruction, given in tables:
        different.update(instruction.map(lambda cell: hash(cell) if isinstance(cell, str) else 0))
        filled += _filled(given).sum()
        rows += len(given)
    return len(different) <= CONSTANT_SHARE * rows and filled > CONSTANT_SHARE * rows


def _followed(instruction: pd.Series, given: pd.Series) -> pd.Series:
    """Each instruction, followed by its input where that is filled."""
    texts, filled = instruction.map(lambda cell: cell if isinstance(cell, str) else ""), _filled(given)
    return texts.where(~filled, texts + " " + given.where(filled, "").map(str)).rename("instruction")


def _filled(cells: pd.Series) -> pd.Series:
    return cells.map(lambda cell: isinstance(cell, str) and bool(cell.strip())).astype(bool)


def _texts(
    cells: pd.Series, side: str, whole_chat: bool, counts: Counter, where: str, rows_before: int
) -> Iterable[str]:
    for number, cell in enumerate(cells, start=rows_before + 1):
        text = _text(cell, side, whole_chat, counts)
        if text is None:
            shown = repr(cell)[:60]
            raise InputError(f"{where}, row {number}: {shown} is neither a text nor a known shape; write a text there")
        try:
            text.encode()
        except UnicodeEncodeError:
            raise InputError(f"{where}, row {number}: half of a surrogate pair is not a character") from None
        yield text


def _text(cell: object, side: str, whole_chat: bool, counts: Counter) -> str | None:
    """The text of a cell; None for a cell of unknown shape."""
    if isinstance(cell, str):
        return cell
    if cell is None or cell is pd.NA or cell is pd.NaT or (isinstance(cell, float) and cell != cell):
        return ""
    if isinstance(cell, numbers.Number | np.bool_):
        return str(cell)
    if isinstance(cell, dict) and "text" in cell:  # the answers of SQuAD on the hub
        return _text(cell["text"], side, whole_chat, counts)
    if isinstance(cell, list | tuple | np.ndarray):
        items = list(cell)
        if not all(isinstance(item, str) for item in items):
            return _turn_of(items, side, whole_chat, counts)
        counts[f"several_{side}s"] += len(items) > 1
        return items[0] if items else ""
    return None


def _turn_of(items: list, side: str, whole_chat: bool, counts: Counter) -> str | None:
    """The turn of a chat that is the question or the answer; an empty text if there is none.

    In a whole chat, they are the first turn of the user and the first answer to it. In a prompt with several turns, the
    question is the last turn of the user, which the completion answers.
    """
    turns = [_turn(item) for item in items]
    if None in turns:
        return None
    speakers = [speaker for speaker, _ in turns]
    asked = [place for place, speaker in enumerate(speakers) if speaker == "user"]
    counts["several_turns"] += side == "question" and len(asked) > 1
    if side == "question":
        return turns[asked[0 if whole_chat else -1]][1] if asked else ""
    start = asked[0] if asked else 0
    return next((text for speaker, text in turns[start:] if speaker == "assistant"), "")


def _turn(item: object) -> tuple[str, str] | None:
    """Speaker and text of a chat's turn; None for an item of another shape."""
    if not isinstance(item, dict):
        return None
    speaker, text = item.get("role", item.get("from")), item.get("content", item.get("value"))
    return (_SPEAKERS.get(speaker, ""), text) if isinstance(speaker, str) and isinstance(text, str) else None
