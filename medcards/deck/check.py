"""Check whether a deck can be used: what was recognised, which rows would be dropped, and the command for a run."""

import hashlib
import html
import json
import re
import shlex
import unicodedata
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from medcards.deck.cards import clean
from medcards.deck.columns import AUTO
from medcards.deck.markup import is_html
from medcards.deck.sources import read_files
from medcards.deck.splits import PrepareParams, group_cards, near_duplicates, split_by_group
from medcards.deck.words import words

DECKS = Path("decks")
"""The folder of the user's decks, which DVC watches."""
FEW_TEST_QUESTIONS = 100
"""Number of test questions below which intervals are wide."""
TOKENS_PER_WORD, PROMPT_TOKENS = 1.5, 100
"""Tokens of a word, about; and tokens of a training row's system prompt, template and answer, at least."""
BYTES_PER_WORD = TOKENS_PER_WORD * 49_152 * 3 * 4
"""Memory per word of an answer whose likelihood is scored: the logits of its tokens over the default model's
vocabulary, three copies of 4 bytes."""
MUCH_MEMORY = 1e9
"""Number of bytes from which the memory is said."""
_SAFE = re.compile(r"[A-Za-z0-9_./-]+")


def describe_lengths(counts: pd.Series) -> str:
    """Numbers of words: smallest, largest, median.

    >>> describe_lengths(pd.Series([2, 3, 4]))
    '2 to 4 words, median 3'
    """
    return f"{counts.min():,} to {counts.max():,} words, median {counts.median():,.0f}"


def check_deck(
    path: Path, question: str, answer: str, seed: int, params: PrepareParams, max_length: int
) -> tuple[list[str], pd.DataFrame, list[str]]:
    """Read, clean, group and split a whole deck as the pipeline does.

    Parameters
    ----------
    path : a file, or a folder of files.
    question, answer : names of columns, or ``auto``.
    max_length : tokens of a training row, at most.

    Returns
    -------
    findings : lines for the reader.
    cards : the usable cards.
    overrides : each ``block.key=value`` that a run of the whole deck needs.

    Raises
    ------
    InputError : the pipeline would refuse the deck.
    """
    raw, material = read_files(path, question, answer)
    cards, counts, _ = clean(raw)
    pairs = near_duplicates(cards, params.near_duplicate_threshold, seed)
    cards["group"] = group_cards(cards, pairs, params.join_share)
    splits = split_by_group(cards, params.validation_share, params.test_share, seed).value_counts()
    sizes = cards.group.value_counts()
    lengths = cards[["question", "answer"]].map(lambda text: len(words(text)))
    other = [f"{name} {count:,}" for name, count in counts.items() if name not in ("rows_read", "kept") and count]
    findings = [line for name, file in material["files"].items() for line in _recognised(name, file)]
    findings += [
        f"questions: {describe_lengths(lengths.question)}",
        f"answers: {describe_lengths(lengths.answer)}",
        f"usable: {counts['kept']:,} of {counts['rows_read']:,} rows" + (f" ({', '.join(other)})" if other else ""),
        f"near-duplicates: {len(sizes):,} groups; the largest has {sizes.iloc[0]:,} cards ({sizes.index[0]})",
        f"splits: {', '.join(f'{splits[name]:,} {name}' for name in ('train', 'validation', 'test'))}",
        f"first card: {_short(cards.question[0])} / {_short(cards.answer[0])}",
    ]
    if (memory := lengths.answer.max() * BYTES_PER_WORD) > MUCH_MEMORY:
        findings.append(f"the longest answer takes about {memory / 1e9:.0f} GB of memory when its likelihood is scored")
    if splits["test"] < FEW_TEST_QUESTIONS:
        findings.append(f"the deck is small: intervals over {splits['test']} test questions will be wide")
    overrides = ["prepare.max_cards=0"] if params.max_cards else []  # params.yaml keeps a sample only
    if (needed := TOKENS_PER_WORD * lengths.question.quantile(0.95) + PROMPT_TOKENS) > max_length:
        findings.append("the questions are long: training rows need more tokens than finetune.max_length")
        overrides.append(f"finetune.max_length={2 ** int(np.ceil(np.log2(needed)))}")
    return findings, cards, overrides


def _recognised(name: str, file: dict) -> list[str]:
    """What was recognised in a file, as lines."""
    columns = file["columns"]
    lines = [f"{name}: {file['read_as']}; question: {columns['question']}; answer: {columns['answer']}"]
    several = {
        "several_questions": "questions; the first is taken",
        "several_answers": "answers; the first is taken",
        "several_turns": "turns; one question and its answer are taken",
    }
    lines += [f"{columns[count]:,} rows hold several {what}" for count, what in several.items() if columns.get(count)]
    lines += [
        f"row {row}: a quote that is not closed swallows {swallowed} rows; close or double the quote"
        for row, swallowed in file["open_quotes"].items()
    ]
    return lines


def _short(text: str) -> str:
    return text if len(text) <= 60 else f"{text[:57]}..."


def run_command(path: Path, question: str, answer: str, copy: Path, overrides: Sequence[str] = ()) -> str:
    """The shell command that runs a deck to the end, whatever its file and its columns are called.

    A file in decks/ with a plain name, whose columns are found, runs as it is. Of any other, a copy is written first.

    Parameters
    ----------
    copy : see :func:`copy_of`.
    overrides : see :func:`check_deck`.

    >>> run_command(Path("decks/mine.csv"), "auto", "auto", Path("decks/mine-1.jsonl"))
    'make run PROFILE=own_deck DECK=decks/mine.csv'
    >>> run_command(Path("My deck.csv"), "auto", "0", Path("decks/My-deck-1.jsonl"))
    "python -m medcards check 'My deck.csv' --answer=0 --write && make run PROFILE=own_deck DECK=decks/My-deck-1.jsonl"
    """
    added = f' ARGS="{" ".join(f"-S {override}" for override in overrides)}"' if overrides else ""
    inside = DECKS.resolve() in (path.resolve(), *path.resolve().parents)
    if inside and (question, answer) == (AUTO, AUTO) and _SAFE.fullmatch(str(path)):
        return f"make run PROFILE=own_deck DECK={path}{added}"
    names = {"--question": question, "--answer": answer}
    arguments = [str(path), *(f"{option}={name}" for option, name in names.items() if name != AUTO), "--write"]
    return f"python -m medcards check {shlex.join(arguments)} && make run PROFILE=own_deck DECK={copy}{added}"


def copy_of(path: Path, content: str) -> Path:
    """The file in decks/ for a clean copy of a deck. Its name has ASCII letters, digits, _ and - only.

    >>> copy_of(Path("Prüfung 1.csv"), "").as_posix()
    'decks/Prufung-1-e3b0c4.jsonl'

    Parameters
    ----------
    content : what :func:`clean_lines` returned. Another content has another name, so that no copy is overwritten.
    """
    plain = unicodedata.normalize("NFKD", path.stem).encode("ascii", "ignore").decode()
    stem = re.sub(r"[^A-Za-z0-9_]+", "-", plain).strip("-") or "deck"
    return DECKS / f"{stem}-{hashlib.sha256(content.encode()).hexdigest()[:6]}.jsonl"


def clean_lines(cards: pd.DataFrame) -> str:
    """Clean cards as JSON lines of ``question`` and ``answer``. Text that looks like HTML is escaped."""

    def line(card: tuple) -> str:
        sides = {"question": card.question, "answer": card.answer}
        sides = {side: html.escape(text, quote=False) if is_html(text) else text for side, text in sides.items()}
        return json.dumps(sides, ensure_ascii=False)

    return "\n".join(map(line, cards.itertuples())) + "\n"
