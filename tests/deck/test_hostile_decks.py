"""Decks that nobody wrote by hand (library: Hypothesis). Each gives cards or an error of one line, in bounded time.

The quick lane tries 200 inputs of a source, 50 for each format of a file. `python -m pytest -m long` tries 10,000.
"""

import csv
import io
import json
import math
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from medcards import InputError
from medcards.answers.contradictions import contradictions
from medcards.answers.scores import exact_match, novel_f1, token_f1
from medcards.base.files import to_json
from medcards.deck import sources
from medcards.deck.cards import clean
from medcards.deck.description import cleaning_report
from medcards.deck.sources import read_files, read_hub, read_ontology
from medcards.deck.splits import group_cards, near_duplicates, split_by_group

QUICK, FORMAT, LONG = 200, 50, 10_000
SECONDS = 5
"""Longest time of an input in these tests, which has at most a few dozen rows."""
WORDS = """gout asthma measles anaemia scurvy rickets mumps malaria cholera leprosy tetanus rabies eczema glaucoma
migraine psoriasis cirrhosis epilepsy sciatica lupus tonsillitis bronchitis nephritis hepatitis""".split()
GOOD = [(f"{name.title()}?", f"The {name[::-1]} sign of {name} {place}.") for place, name in enumerate(WORDS)]
"""Cards that no neighbour in a file may spoil, enough for three splits."""
LONGEST_ERROR = 1000
"""Number of characters of an error, whatever the deck holds."""
READ = 0.1
"""Smallest share of the inputs of a test that must give cards; the others are refused."""
SIGNS = st.sampled_from(
    [
        *("\x00", "\x1a", "\x85", "\ufeff", "\u200b", "\u202e", "\u2028", "\ud800", "\udfff", "\U0001f600", "e\u0301"),
        *("\r", "\n", "\r\n", "\t", '"', "'", "\\", ",", ";", "|", "<", ">", "&", "&lt;", "&#0;", "&#55296;", "{{c1::"),
        *("::", "}}", "[sound:", "]", "<b>", "</b>", "<script>alert(1)</script>", "<!--", "<img src=x onerror=y>"),
        *("=1+1", "+1", "-1", "@SUM(A1)", "../../etc/passwd", "\u0645\u0631\u0636", "病気", "१२", "½", "10⁹", "1e309"),
        *("nan", "null", "NA", "inf", "-0", "#separator:", "sep=", "What is", "gout", " "),
    ]
)
TEXTS = st.lists(st.one_of(SIGNS, st.text(max_size=8)), max_size=8).map("".join)
VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), TEXTS),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(TEXTS, inner, max_size=3)),
    max_leaves=6,
)
NAMES = st.one_of(st.sampled_from(["question", "answer", "input", "output", "instruction", "messages", "id"]), TEXTS)
RECORDS = st.lists(st.dictionaries(NAMES, VALUES, max_size=4), max_size=6)


def lanes(quick: int) -> pytest.MarkDecorator:
    """Run a test with the number of inputs of each lane."""
    long = pytest.param(LONG, marks=[pytest.mark.long, pytest.mark.timeout(7200)])
    return pytest.mark.parametrize("inputs", [quick, long])


def try_inputs(inputs: int, strategy: st.SearchStrategy, check: Callable) -> None:
    """Call a check with inputs that are generated with a fixed seed. It returns cards, or None for a refusal."""
    tried, read = 0, 0

    @settings(max_examples=inputs, deadline=None, derandomize=True, database=None, suppress_health_check=HealthCheck)
    @given(strategy)
    def run(value):
        nonlocal tried, read
        started = time.process_time()
        read += check(value) is not None
        tried += 1
        assert time.process_time() - started < SECONDS

    run()
    print(f"{tried:,} inputs, {read:,} gave cards")
    assert tried >= inputs and read >= READ * tried


def cards_of(read: Callable[[], tuple]) -> pd.DataFrame | None:
    """The clean cards of a deck, with groups and splits; None where the deck is refused with an error of one line."""
    try:
        raw, material = read()
        cards, counts, examples = clean(raw)
        cards["group"] = group_cards(cards, near_duplicates(cards, 0.5, seed=1), join_share=0.1)
        dropped = sum(count for reason, count in counts.items() if reason.startswith("dropped_"))
        assert counts["rows_read"] == counts["kept"] + dropped == dropped + len(cards)
        for text in [*cards.question, *cards.answer, to_json(material), cleaning_report(counts, examples)]:
            assert text.strip() and text.encode()
        cards["split"] = split_by_group(cards, 0.2, 0.2, seed=1)
    except InputError as error:
        assert 0 < len(str(error)) < LONGEST_ERROR
        return None
    return cards


def read_bytes(suffix: str, data: bytes) -> pd.DataFrame | None:
    """:func:`cards_of` a file with these bytes."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / f"deck{suffix}"
        file.write_bytes(data)
        return cards_of(lambda: read_files(file, "auto", "auto"))


def mostly(usual: st.SearchStrategy, other: st.SearchStrategy) -> st.SearchStrategy:
    """Four of five values of the first kind."""
    return st.integers(0, 4).flatmap(lambda drawn: usual if drawn else other)


def damaged(data: st.SearchStrategy[bytes]) -> st.SearchStrategy[bytes]:
    """Bytes that are cut, that have other bytes in them, or that are in another encoding."""

    def change(draw: tuple) -> bytes:
        content, place, inserted, how = draw
        place = place % (len(content) + 1)
        if how == "cut":
            return content[:place]
        if how == "insert":
            return content[:place] + inserted + content[place:]
        if how == "utf-16":
            return content.decode("utf-8", "replace").encode("utf-16")
        return content if how == "none" else b"\xef\xbb\xbf" + content

    ways = mostly(st.sampled_from(["none", "bom", "utf-16"]), st.sampled_from(["insert", "cut"]))
    return st.tuples(data, st.integers(0, 10_000), st.binary(max_size=6), ways).map(change)


def as_json(value: object) -> bytes:
    return json.dumps(value).encode()


def records(cards: list[tuple]) -> list[dict]:
    return [{"question": question, "answer": answer} for question, answer in cards]


def with_good_cards(hostile: st.SearchStrategy[list]) -> st.SearchStrategy[list]:
    """Rows of JSON, mostly with the good cards before them."""
    return mostly(hostile.map(lambda rows: [*records(GOOD), *rows]), hostile)


def lines_of(hostile: st.SearchStrategy[list]) -> st.SearchStrategy[bytes]:
    """Lines of JSON, see :func:`with_good_cards`."""
    return with_good_cards(hostile).map(lambda rows: b"\n".join(map(as_json, rows)))


@lanes(FORMAT)
def test_json(inputs):
    rows = with_good_cards(RECORDS)
    shapes = mostly(st.one_of(rows, rows, rows.map(lambda rows: {"data": rows})), VALUES)
    try_inputs(inputs, damaged(shapes.map(as_json)), lambda data: read_bytes(".json", data))


@lanes(FORMAT)
def test_json_lines(inputs):
    lines = lines_of(st.lists(st.one_of(RECORDS, VALUES), max_size=5) | RECORDS)
    try_inputs(inputs, damaged(lines), lambda data: read_bytes(".jsonl", data))


@lanes(FORMAT)
def test_delimited_text(inputs):
    texts = st.lists(st.one_of(SIGNS, TEXTS), max_size=30).map("".join)
    data = st.one_of(texts.map(lambda text: text.encode("utf-8", "replace")), st.binary(max_size=200))
    good = {sign: "".join(f"{question}{sign}{answer}\n" for question, answer in GOOD).encode() for sign in ",\t"}
    heads = [b"question,answer\n" + good[","], b"a\tb\n" + good["\t"], b"#separator:tab\n" + good["\t"]]
    with_head = st.tuples(st.sampled_from([b"", b"question,answer\n", *heads, *heads]), data)
    suffix = st.sampled_from([".csv", ".tsv", ".txt"])
    deck = st.tuples(suffix, damaged(with_head.map(b"".join)))
    try_inputs(inputs, deck, lambda drawn: read_bytes(*drawn))


def as_parquet(columns: dict[str, list]) -> bytes:
    """A Parquet file; of values that no column can hold, their JSON."""
    written = io.BytesIO()
    try:
        table = pyarrow.table(columns)
    except (pyarrow.ArrowException, TypeError, ValueError, OverflowError, UnicodeEncodeError):
        table = pyarrow.table({name: [json.dumps(value) for value in cells] for name, cells in columns.items()})
    pyarrow.parquet.write_table(table, written)
    return written.getvalue()


def parquet_columns() -> st.SearchStrategy[dict[str, list]]:
    """Columns of one length, each with cells of one kind, and empty cells."""
    plain = TEXTS.map(lambda text: text.encode("utf-8", "replace").decode())
    kinds = [plain, st.integers(-(2**40), 2**40), st.floats(), st.booleans(), st.binary(max_size=9), st.datetimes()]
    kinds += [st.lists(plain, max_size=2), st.fixed_dictionaries({"text": st.lists(plain, max_size=2)})]

    def columns(rows: int) -> st.SearchStrategy:
        cells = st.one_of([st.lists(st.none() | kind, min_size=rows, max_size=rows) for kind in kinds])
        names = st.sampled_from(["question", "answer", "input", "messages", "id", "\u202e"])
        return st.dictionaries(names, cells, min_size=1, max_size=4)

    def with_good(drawn: tuple[dict, list]) -> dict[str, list]:
        """The good cards and hostile ones, in columns of texts, beside columns of other kinds."""
        other, cards = drawn
        questions, answers = zip(*GOOD, *cards, strict=True)
        fill = [None] * len(questions)
        beside = {name: (cells + fill)[: len(fill)] for name, cells in other.items()}
        return beside | {"question": list(questions), "answer": list(answers)}

    hostile = st.integers(0, 5).flatmap(columns)
    return mostly(st.tuples(hostile, st.lists(st.tuples(plain, plain), max_size=5)).map(with_good), hostile)


@lanes(FORMAT)
def test_parquet(inputs):
    data = damaged(parquet_columns().map(as_parquet))
    try_inputs(inputs, data, lambda data: read_bytes(".parquet", data))


@lanes(FORMAT)
def test_cards_beside_hostile_ones_are_kept(inputs):
    """A well-formed file is never refused, and no good card of it is lost or changed."""
    texts = TEXTS.map(lambda text: text.encode("utf-8", "ignore").decode().replace("\x00", ""))
    pairs = st.lists(st.tuples(texts, texts), max_size=6)

    def check(drawn: tuple) -> None:
        suffix, hostile = drawn
        rows = [*GOOD[:9], *hostile[:3], *GOOD[9:18], *hostile[3:], *GOOD[18:]]
        if suffix == ".csv":
            written = io.StringIO()
            csv.writer(written, quoting=csv.QUOTE_ALL).writerows([("question", "answer"), *rows])
            data = written.getvalue().encode()
        else:
            cards = records(rows)
            data = as_json(cards) if suffix == ".json" else b"\n".join(map(as_json, cards))
        cards = read_bytes(suffix, data)
        assert cards is not None and set(GOOD) <= set(zip(cards.question, cards.answer, strict=True))
        return cards

    try_inputs(inputs, st.tuples(st.sampled_from([".csv", ".json", ".jsonl"]), pairs), check)


@lanes(QUICK)
def test_ontologies(inputs):
    ids = st.sampled_from(["HP:1", "HP:2", "HP:3", "HP:4", "x", ""])
    texts = TEXTS.map(lambda text: text.encode("utf-8", "replace").decode())
    lines = st.one_of(
        st.just("[Term]"),
        st.just("[Typedef]"),
        st.just(""),
        st.builds("id: {}".format, ids),
        st.builds("is_a: {} ! {}".format, ids, texts),
        st.builds("name: {}".format, texts),
        st.builds('def: "{}" []'.format, texts),
        st.builds("def: {}".format, texts),
        st.builds('synonym: "{}" EXACT layperson []'.format, texts),
        st.builds("is_obsolete: {}".format, st.sampled_from(["true", "false", ""])),
    )
    terms = st.builds('[Term]\nid: {}\nname: {}\ndef: "{}" []\nis_a: {}\n'.format, ids, texts, texts, ids)
    good = [
        f'[Term]\nid: HP:{place + 10}\nname: {question[:-1]}\ndef: "{answer}" []\nis_a: HP:1\n'
        for place, (question, answer) in enumerate(GOOD)
    ]
    root = "[Term]\nid: HP:1\nname: All\n"
    hostile = mostly(st.lists(terms, max_size=6), st.lists(st.one_of(terms, lines, texts), max_size=12))
    deck = mostly(hostile.map(lambda rows: [root, *good, *rows]), hostile).map("\n".join).map(str.encode)
    deck = mostly(deck, damaged(deck))

    def check(data: bytes) -> None:
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "terms.obo"
            file.write_bytes(data)

            def read() -> tuple:
                table, material = read_ontology(file)
                return [table], material

            return cards_of(read)

    try_inputs(inputs, deck, check)


@lanes(QUICK)
def test_hub_datasets(inputs, tmp_path, monkeypatch):
    """Repositories of one file, as the hub's client leaves them on this machine.

    Its name is that of a data set with one shard, which the library looks for first.
    """
    import datasets

    monkeypatch.setattr(sources, "pin", lambda reference, _: reference)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    datasets.disable_progress_bars()
    files = st.one_of(
        st.tuples(st.just(".json"), damaged(with_good_cards(RECORDS).map(as_json))),
        st.tuples(st.just(".jsonl"), damaged(lines_of(RECORDS))),
        st.tuples(st.just(".csv"), damaged(TEXTS.map(lambda text: text.encode("utf-8", "replace")))),
        st.tuples(st.just(".parquet"), damaged(parquet_columns().map(as_parquet))),
    )

    def check(drawn: tuple) -> None:
        suffix, data = drawn
        with tempfile.TemporaryDirectory(dir=tmp_path) as folder:
            (Path(folder) / "data").mkdir()
            (Path(folder) / f"data/train-00000-of-00001{suffix}").write_bytes(data)
            monkeypatch.setattr(sources, "resolve", lambda *_: Path(folder))
            return cards_of(lambda: read_hub("hub:tiny/deck@main", "auto", "auto"))

    try_inputs(inputs, files, check)


@lanes(QUICK)
def test_scores(inputs):
    """A score is between 0 and 1, an answer equal to its reference contradicts nothing, and no text takes long."""

    def check(drawn: tuple[str, str, str]) -> None:
        answer, reference, question = drawn
        novel = novel_f1(answer, reference, question)  # NaN where the reference has no word of its own
        scores = [exact_match(answer, reference), token_f1(answer, reference), 0.0 if math.isnan(novel) else novel]
        assert all(0 <= score <= 1 for score in scores)
        assert token_f1(answer, reference) == pytest.approx(token_f1(reference, answer))
        contradictions(answer, reference)
        assert exact_match(answer, answer) == 1 and not contradictions(answer, answer)
        return scores

    texts = TEXTS.map(lambda text: text.encode("utf-8", "ignore").decode())
    try_inputs(inputs, st.tuples(texts, texts, texts), check)


@pytest.mark.long
@pytest.mark.parametrize(
    "data",
    [
        b"question,answer\n" + b"What?," + b"x" * 10_000_000 + b"\nWhat is gout?,An arthritis.\n",
        b"question,answer\n" + b",\n" * 1_000_000 + b"What is gout?,An arthritis.\n",
        b'[{"question": "' + b"<b>" * 300_000 + b'What?", "answer": "' + b"{{c1::" * 300_000 + b'x"}]',
        b"[" * 100_000,
        b'{"question": ' * 20_000,
    ],
    ids=["a field of 10 MB", "a million blank rows", "markup without end", "brackets", "braces"],
)
def test_large_decks_end(data):
    """Cards or one line, within a minute."""
    started = time.process_time()
    suffix = ".json" if data[:1] in b"[{" else ".csv"
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / f"deck{suffix}"
        file.write_bytes(data)
        try:
            cards, _, _ = clean(read_files(file, "auto", "auto")[0])
            assert len(cards) and np.all(cards.answer != "")
        except InputError as error:
            assert 0 < len(str(error)) < LONGEST_ERROR
    assert time.process_time() - started < 60
