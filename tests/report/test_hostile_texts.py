"""Texts of a hostile deck stay texts in REPORT.md, in tables for a spreadsheet and in notes for Anki."""

import csv

import pandas as pd
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from medcards.report.anki import as_html
from medcards.report.render import markdown_table, one_line, spreadsheet_text
from medcards.report.style import publish_table

PIECES = ["*", "_", "~~", "`", "\\", "<b>", "<!--", "-->", "<script>", "&lt;", "&", "|", "[", "]", "](", "![", ")"]
PIECES += [
    "# ",
    "> ",
    "- ",
    "1. ",
    "<http://e>",
    "\n",
    "\r",
    "\t",
    "\u202e",
    "e\u0301",
    "gout",
    " ",
    "(",
    '"',
    "$",
    "=1+1",
]
texts = st.lists(st.sampled_from(PIECES) | st.text(max_size=3), max_size=12).map("".join)


def shown(markdown: str) -> list[str]:
    """The text of each paragraph and cell; a fault where it has any markup."""
    found = []
    for block in MarkdownIt("gfm-like", {"linkify": False}).parse(markdown):
        for part in block.children or []:
            assert part.type in ("text", "text_special"), (part, markdown)
        if block.type == "inline":
            found.append("".join(part.content for part in block.children))
    return found


def as_a_reader_sees(text: str) -> str:
    return " ".join(text.replace("`", "'").replace("\0", "\ufffd").split())


@given(texts)
@example("![x](http://e/x.png) [y](http://e) \\*z\\*")
def test_a_list_shows_the_characters_of_a_text(text):
    assert shown(f"- reference: {one_line(text)} end") == [f"reference: {as_a_reader_sees(text)} end"]


@given(texts)
@example("\\| a")
def test_a_table_shows_the_characters_of_a_text(text):
    table = markdown_table({f"in {one_line(text)} end": {"n": "1"}}, ["n"], "slice")
    assert shown(table)[2:3] == [f"in {as_a_reader_sees(text)} end"]


@pytest.mark.parametrize("sign", "=+-@\t\r\n＝＋－＠")
def test_a_spreadsheet_runs_no_text_of_a_table_or_a_note(tmp_path, sign):
    """Each sign that begins a formula. A sign inside a text, and a number, stay as they are."""
    text = f"{sign}1{sign}1"
    assert spreadsheet_text(text) == f"'{text}" and spreadsheet_text(f"a{text}") == f"a{text}"
    publish_table(pd.DataFrame({"question": [text], "difference": [-0.5]}), tmp_path / "table.csv")
    with open(tmp_path / "table.csv", encoding="utf-8", newline="") as file:
        assert [*csv.reader(file)] == [["question", "difference"], [f"'{text}".replace("\r", "\n"), "-0.5"]]
    assert as_html(text)[0] in "&<"
