"""Check whether a deck can be used: its contents, the rows that would be dropped, and the commands that run it."""

import re
from pathlib import Path

import pandas as pd

from medcards import InputError
from medcards.deck.cards import clean
from medcards.deck.sources import read_files, read_table
from medcards.deck.splits import PrepareParams, group_cards, near_duplicates, split_by_group
from medcards.deck.words import STOP_WORDS, words

QUESTION_COLUMNS = ("input", "question", "front", "prompt", "query", "term")
ANSWER_COLUMNS = ("output", "answer", "back", "response", "completion", "definition")
"""Usual names of the columns of a deck, the most frequent name first."""
DOCUMENT_FREQUENCIES = (20, 10, 5, 2)
"""Values of eda.min_document_frequency that the check recommends, the default first."""
MIN_VOCABULARY = 200
"""Number of words that the topic models need."""
FEW_TEST_QUESTIONS = 100
"""Number of test questions below which intervals are wide."""


def find_column(table: pd.DataFrame, names: tuple[str, ...], option: str) -> str:
    """The first column of the table that has one of the usual names, in upper or lower case.

    Parameters
    ----------
    names : the usual names.
    option : the command's option that names the column, for the error.

    Raises
    ------
    InputError : the table has no such column.
    """
    for name in names:
        for column in map(str, table.columns):
            if column.strip().lower() == name:
                return column
    found = ", ".join(map(str, table.columns)) or "none"
    raise InputError(f"no column is called {' or '.join(names)} (found: {found}): name the column with --{option}")


def describe_lengths(texts: pd.Series) -> str:
    """The numbers of words of texts: smallest, largest, median.

    >>> describe_lengths(pd.Series(["a b", "a b c", "a b c d"]))
    '2 to 4 words, median 3'
    """
    counts = texts.str.split().str.len()
    return f"{counts.min():,} to {counts.max():,} words, median {counts.median():,.0f}"


def min_document_frequency(answers: pd.Series) -> int:
    """The largest of :data:`DOCUMENT_FREQUENCIES` that leaves :data:`MIN_VOCABULARY` words, or the smallest."""
    found = pd.Series([word for text in answers for word in set(words(text)) - STOP_WORDS]).value_counts()
    enough = (limit for limit in DOCUMENT_FREQUENCIES if (found >= limit).sum() >= MIN_VOCABULARY)
    return next(enough, DOCUMENT_FREQUENCIES[-1])


def check_deck(file: Path, question: str, answer: str, seed: int, params: PrepareParams) -> tuple[list[str], list[str]]:
    """Read, clean, group and split a whole deck as the pipeline does.

    Parameters
    ----------
    question, answer : names of columns. If empty, the usual names are looked for.

    Returns
    -------
    findings : lines for the reader.
    overrides : each ``block.key=value`` that a run of this deck needs in addition to the profile own_deck.

    Raises
    ------
    InputError : the pipeline would refuse the deck.
    """
    if not file.is_file():
        raise InputError(f"{file}: there is no such file")
    table = read_table(file)
    question = question or find_column(table, QUESTION_COLUMNS, "question")
    answer = answer or find_column(table, ANSWER_COLUMNS, "answer")
    raw, _ = read_files(file, question, answer)
    cards, counts, _ = clean(raw)
    cards["group"] = group_cards(
        cards, near_duplicates(cards, params.near_duplicate_threshold, seed), params.join_share, params.stop_share
    )
    splits = split_by_group(cards, params.validation_share, params.test_share, seed).value_counts()
    sizes = cards.group.value_counts()
    other = [f"{name} {count:,}" for name, count in counts.items() if name not in ("rows_read", "kept") and count]
    findings = [
        f"{len(table):,} rows; columns: {', '.join(map(str, table.columns))}",
        f"questions in column '{question}': {describe_lengths(cards.question)}",
        f"answers in column '{answer}': {describe_lengths(cards.answer)}",
        f"usable: {counts['kept']:,} of {counts['rows_read']:,} rows" + (f" ({', '.join(other)})" if other else ""),
        f"near-duplicates: {len(sizes):,} groups; the largest has {sizes.iloc[0]:,} cards ({sizes.index[0]})",
        f"splits: {', '.join(f'{splits[name]:,} {name}' for name in ('train', 'validation', 'test'))}",
    ]
    if splits["test"] < FEW_TEST_QUESTIONS:
        findings.append(f"the deck is small: intervals over {splits['test']} test questions will be wide")
    if Path("decks").absolute() not in file.absolute().parents:
        findings.append(
            "the file is not in decks/, the folder that DVC watches: copy it there before you run a command"
        )
        file = Path("decks", file.name)
    overrides = [f"data.path={file}"]
    overrides += [f"data.question_column={question}"] if question != "input" else []
    overrides += [f"data.answer_column={answer}"] if answer != "output" else []
    overrides += ["prepare.max_cards=0"] if params.max_cards else []  # params.yaml keeps a sample only
    frequency = min_document_frequency(cards.answer)
    overrides += [f"eda.min_document_frequency={frequency}"] if frequency != DOCUMENT_FREQUENCIES[0] else []
    return findings, overrides


def run_command(overrides: list[str], stage: str = "") -> str:
    """The shell command that runs the profile own_deck with overrides, up to a stage or to the end.

    >>> run_command(["data.path=decks/mine.csv"], "rerank_eval")
    'make run PROFILE=own_deck ARGS="-S data.path=decks/mine.csv" STAGE=rerank_eval'

    Raises
    ------
    InputError : a value has characters that the shell or DVC would change.
    """
    for override in overrides:
        key, _, value = override.partition("=")
        if not re.fullmatch(r"[\w./-]+", value):
            raise InputError(f"{key}: '{value}' needs another name, of letters, digits and _ . / - only")
    added = " ".join(f"-S {override}" for override in overrides)
    return f'make run PROFILE=own_deck ARGS="{added}"' + (f" STAGE={stage}" if stage else "")
