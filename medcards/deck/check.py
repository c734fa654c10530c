"""Can this deck be used? What a file holds, what would be dropped, and the commands that search and run it.

    python -m medcards.deck.check decks/mine.csv
    python -m medcards.deck.check decks/mine.csv --question front --answer back

It reads, cleans, groups and splits the deck as the prepare stage would with the params.yaml of this folder, and
changes nothing. A deck that could not be run ends with one line that says why, and exit status 1.
"""

import argparse
import re
import sys
from pathlib import Path

import pandas as pd

from medcards import InputError
from medcards.base.params import Seed, load
from medcards.deck.cards import clean
from medcards.deck.sources import read_files, read_table
from medcards.deck.splits import PrepareParams, group_cards, near_duplicates, split_by_group
from medcards.explore.vocabulary import STOP_WORDS, words

QUESTIONS = ("input", "question", "front", "prompt", "query", "term")
ANSWERS = ("output", "answer", "back", "response", "completion", "definition")
"""Names of columns that decks use, the most usual first."""
FREQUENCIES = (20, 10, 5, 2)
"""Values of eda.min_document_frequency to advise, the default first."""
VOCABULARY = 200
"""So many words left are enough for the topic models."""


def find_column(table: pd.DataFrame, names: tuple[str, ...], option: str) -> str:
    """The first of the usual names that the table has, whatever its case.

    Raises
    ------
    InputError : it has none of them.
    """
    for name in names:
        for column in map(str, table.columns):
            if column.strip().lower() == name:
                return column
    found = ", ".join(map(str, table.columns)) or "none"
    raise InputError(f"no column is called {' or '.join(names)} (found: {found}): say which, by --{option}")


def lengths(texts: pd.Series) -> str:
    """How many words texts have.

    >>> lengths(pd.Series(["a b", "a b c", "a b c d"]))
    '2 to 4 words, half of them at most 3'
    """
    counts = texts.str.split().str.len()
    return f"{counts.min():,} to {counts.max():,} words, half of them at most {counts.median():,.0f}"


def min_document_frequency(answers: pd.Series) -> int:
    """The largest of :data:`FREQUENCIES` that leaves the topic models words enough, or the smallest."""
    found = pd.Series([word for text in answers for word in set(words(text)) - STOP_WORDS]).value_counts()
    return next((limit for limit in FREQUENCIES if (found >= limit).sum() >= VOCABULARY), FREQUENCIES[-1])


def check(file: Path, question: str, answer: str, seed: int, params: PrepareParams) -> tuple[list[str], list[str]]:
    """What the pipeline would make of a deck.

    Parameters
    ----------
    question, answer : names of columns; where empty, the usual names are looked for.

    Returns
    -------
    findings : what was found, in lines.
    overrides : the ``block.key=value`` that a run of this deck needs beyond the profile own_deck.

    Raises
    ------
    InputError : the pipeline would refuse the deck.
    """
    if not file.is_file():
        raise InputError(f"{file}: there is no such file")
    table = read_table(file)
    question = question or find_column(table, QUESTIONS, "question")
    answer = answer or find_column(table, ANSWERS, "answer")
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
        f"questions from '{question}': {lengths(cards.question)}",
        f"answers from '{answer}': {lengths(cards.answer)}",
        f"usable: {counts['kept']:,} of {counts['rows_read']:,} rows" + (f" ({', '.join(other)})" if other else ""),
        f"near-duplicates: {len(sizes):,} groups, the largest has {sizes.iloc[0]:,} cards ({sizes.index[0]})",
        f"splits: {', '.join(f'{splits[name]:,} {name}' for name in ('train', 'validation', 'test'))}",
    ]
    if splits["test"] < 100:
        findings.append(f"few: intervals over {splits['test']} test questions will be wide")
    if Path("decks").absolute() not in file.absolute().parents:
        findings.append("not in decks/, the folder that DVC watches: copy it there, where the commands look for it")
        file = Path("decks", file.name)
    overrides = [f"data.path={file}"]
    overrides += [f"data.question_column={question}"] if question != "input" else []
    overrides += [f"data.answer_column={answer}"] if answer != "output" else []
    frequency = min_document_frequency(cards.answer)
    overrides += [f"eda.min_document_frequency={frequency}"] if frequency != FREQUENCIES[0] else []
    return findings, overrides


def command(overrides: list[str], stage: str = "") -> str:
    """The shell command that runs the profile own_deck with overrides, up to a stage or to its end.

    >>> command(["data.path=decks/mine.csv"], "rerank_eval")
    '(cat profiles/own_deck.args; echo -S data.path=decks/mine.csv) | xargs dvc exp run rerank_eval'

    Raises
    ------
    InputError : a name would not get through shell and DVC as it is.
    """
    for override in overrides:
        key, _, value = override.partition("=")
        if not re.fullmatch(r"[\w./-]+", value):
            raise InputError(
                f"{key}: '{value}' needs another name, of letters, digits, _ . / and -, to be typed safely"
            )
    added = " ".join(f"-S {override}" for override in overrides)
    return f"(cat profiles/own_deck.args; echo {added}) | xargs dvc exp run {stage}".strip()


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m medcards.deck.check", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("deck", type=Path, help="a JSON, JSONL, CSV or Parquet file")
    parser.add_argument("--question", default="", help="the column of the questions")
    parser.add_argument("--answer", default="", help="the column of the answers")
    given = parser.parse_args()
    try:
        seed, params = load("params.yaml", seed=Seed, prepare=PrepareParams)
        findings, overrides = check(given.deck, given.question, given.answer, seed, params)
        print("\n".join(findings))
        print(f"\nTo search it:\n\n    {command([*overrides, 'reranker.model=none'], 'rerank_eval')}")
        print('    python -m medcards.search.searcher "what do I want to know"')
        print(f"\nTo tune a language model on it as well, and measure everything:\n\n    {command(overrides)}")
    except InputError as error:
        sys.exit(f"check: {error}")


if __name__ == "__main__":
    main()
