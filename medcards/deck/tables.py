"""The file of a deck as a table. Format, encoding and separator are recognised by the content."""

import csv
import io
import json
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from html import escape
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from medcards import InputError, reason_of
from medcards.deck.markup import is_html

if TYPE_CHECKING:
    import pyarrow

TEXT_FORMATS = (".csv", ".tsv", ".txt")
"""Endings of files with one card per line: CSV, TSV, and the export of Anki as text."""
FILE_FORMATS = (".json", ".jsonl", *TEXT_FORMATS, ".parquet")
INSTEAD = {
    ".apkg": "in Anki, export the deck as 'Notes in Plain Text (.txt)'",
    ".colpkg": "in Anki, export the deck as 'Notes in Plain Text (.txt)'",
    ".xlsx": "save the sheet as 'CSV UTF-8'",
    ".xls": "save the sheet as 'CSV UTF-8'",
    ".ods": "save the sheet as CSV with the encoding UTF-8",
}
"""What to do with a file of a format that is not read."""
SEPARATORS = "\t;,|"
"""Separators that are tried; of those that cut equally many rows alike, the first is taken."""
PARQUET_ROWS = 50_000
"""Number of rows of a Parquet file that are read at a time."""
SNIFFED_ROWS = 200
"""Number of rows that the separator is recognised by."""
SEPARATOR_NAMES = {"comma": ",", "semicolon": ";", "tab": "\t", "space": " ", "pipe": "|", "colon": ":", "\\t": "\t"}
"""The names by which Anki calls a separator."""
ENCODINGS = ("cp1252", "cp1250", "cp1251", "cp1253", "gb18030", "big5", "shift_jis", "euc_kr")
"""Encodings that are guessed, of texts that are neither UTF-8 nor UTF-16."""
SWALLOWED_ROWS = 3
"""Number of rows in a cell from which its quote counts as not closed."""
_ANKI_SETTING = re.compile(r"#([a-z ]+):(.*)")


@dataclass
class Table:
    """The cells of a file as they were read.

    Parameters
    ----------
    cells : one row per record.
    read_as : what was recognised, in words, such as ``CSV, separator semicolon, encoding cp1252``.
    swallowed : for each row with a quote that is not closed, the number of rows that its cell holds, by place.
    """

    cells: pd.DataFrame
    read_as: str
    swallowed: dict[int, int] = field(default_factory=dict)


def read_tables(file: Path) -> Iterable[Table]:
    """Read all columns of a JSON, JSONL, CSV, TSV, Anki text or Parquet file.

    Returns
    -------
    one table; of a Parquet file those of :class:`ParquetTables`.

    Raises
    ------
    InputError : the file is of another format, empty or malformed.
    """
    suffix = file.suffix.lower()
    if suffix not in FILE_FORMATS:
        instead = INSTEAD.get(suffix, f"a deck is one of {', '.join(FILE_FORMATS)}")
        raise InputError(f"{file}: unknown format '{suffix}'; {instead}")
    if suffix == ".parquet":
        return ParquetTables(file)
    with _malformed(file):
        data = _with_content(file).read_bytes()
        text, encoding = decode(data)
        table = _delimited(text) if suffix in TEXT_FORMATS else _records(text, suffix == ".jsonl")
    table.read_as += "" if encoding == "utf-8" else f", encoding {encoding}"
    return [table]


class ParquetTables:
    """The rows of a Parquet file in tables of :data:`PARQUET_ROWS`, one in memory at a time (library: PyArrow).

    They can be read several times.
    """

    def __init__(self, file: Path):
        self._file = file

    def __iter__(self) -> Iterator[Table]:
        import pyarrow.parquet

        with _malformed(self._file), pyarrow.parquet.ParquetFile(_with_content(self._file)) as parquet:
            if not parquet.metadata.num_rows:
                yield Table(parquet.schema_arrow.empty_table().to_pandas(), "Parquet")
            for batch in parquet.iter_batches(PARQUET_ROWS):
                yield Table(cells_of(batch), "Parquet")


def cells_of(rows: "pyarrow.RecordBatch | pyarrow.Table") -> pd.DataFrame:
    """Rows as a table in which a whole number stays one, whether or not its column has empty cells.

    A column of categories holds its texts.

    Raises
    ------
    ValueError : a text is not UTF-8. Arrow's readers do not check this.
    """
    rows.validate(full=True)
    table = rows.to_pandas(integer_object_nulls=True)
    for place, kind in enumerate(table.dtypes):
        if kind == "category":
            table.isetitem(place, table.iloc[:, place].astype(object))
    return table


@contextmanager
def _malformed(file: Path) -> Iterator[None]:
    """Turn a library's error on a malformed file into one line."""
    try:
        yield
    except (ValueError, OSError, csv.Error, RecursionError) as error:  # pandas, pyarrow and json raise these
        raise InputError(f"{file}: could not be read as {file.suffix.lower()[1:]} ({reason_of(error)})") from None


def _with_content(file: Path) -> Path:
    """The file, if it holds anything but white space."""
    with file.open("rb") as opened:
        if not any(part.strip() for part in iter(lambda: opened.read(2**20), b"")):
            raise InputError(f"{file}: the file is empty")
    return file


def decode(data: bytes) -> tuple[str, str]:
    """The text in bytes, and its encoding: that of a byte order mark, UTF-8, UTF-16, or a guess.

    Library: charset-normalizer.

    Raises
    ------
    ValueError : the bytes are no text.
    """
    for mark, encoding in ((b"\xef\xbb\xbf", "utf-8-sig"), (b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16")):
        if data.startswith(mark):
            return data.decode(encoding), encoding.removesuffix("-sig")
    zeros = [data[place:1000:2].count(0) for place in (0, 1)]
    if sum(zeros) > len(data[:1000]) / 4:  # each other byte of UTF-16 is zero in a text of ASCII
        encoding = "utf-16-be" if zeros[0] > zeros[1] else "utf-16-le"
        return data.decode(encoding), encoding
    with suppress(UnicodeDecodeError):
        return data.decode(), "utf-8"
    from charset_normalizer import from_bytes

    matches = list(from_bytes(data, cp_isolation=list(ENCODINGS)))
    likely = {str(match) for match in matches if match.chaos == min(match.chaos for match in matches)}
    for encoding in ENCODINGS:  # of those that give a likely text, the most frequent
        with suppress(UnicodeDecodeError):
            if (text := data.decode(encoding)) in likely:
                return text, encoding
    raise ValueError("the file is no text in a known encoding; save it as UTF-8")


def _delimited(text: str) -> Table:
    """Text with one card per line: CSV or TSV with a head line, or an export of Anki with its settings."""
    settings, options = {}, {"dtype": str, "keep_default_na": False}
    while match := _ANKI_SETTING.match(text):
        settings[match[1]], text = match[2].strip(" \r"), text[match.end() :].lstrip("\r\n")
    if settings:
        separator = settings.get("separator", "tab")
        separator = SEPARATOR_NAMES.get(separator.lower(), separator)
        if len(separator) != 1 or not text.strip():
            raise ValueError(f"#separator:{separator} is no separator" if text.strip() else "it holds no note")
        options |= {"header": None, "names": _anki_columns(settings, text, separator)}
    elif match := re.match(r"sep=(.)\r?\n", text):  # Excel's
        separator, text = match[1], text[match.end() :]
    else:
        separator = _separator(text)
    cells = pd.read_csv(io.StringIO(text), sep=separator, **options)
    if not isinstance(cells.index, pd.RangeIndex):  # pandas takes surplus fields as row labels
        raise ValueError("a row has more fields than the header; quote texts that contain the separator")
    if settings.get("html", "true") != "true":
        cells = cells.map(lambda cell: escape(cell, quote=False) if is_html(cell) else cell)
    shown = next((name for name, sign in SEPARATOR_NAMES.items() if sign == separator), separator)
    read_as = f"{'notes of Anki' if settings else 'CSV'}, separator {shown}"
    return Table(cells, read_as, dict(_swallowed(cells, separator)))


def _separator(text: str) -> str:
    """The separator that cuts the most rows into as many fields as the head line has; the comma if none does.

    csv's sniffer is not used: a comma in the head line or in the texts misleads it.
    """

    def agreeing(separator: str) -> int:
        rows = islice(csv.reader(io.StringIO(text, newline=""), delimiter=separator), SNIFFED_ROWS)
        widths = [len(row) for row in rows if row]
        return widths.count(widths[0]) if widths and widths[0] > 1 else 0

    return max(SEPARATORS, key=agreeing) if any(map(agreeing, SEPARATORS)) else ","


def _anki_columns(settings: dict[str, str], text: str, separator: str) -> list[str]:
    """The names of all columns in an export of Anki. Its head names some or all; notes of other types have more."""
    width = max(map(len, csv.reader(io.StringIO(text, newline=""), delimiter=separator)))
    named = next(csv.reader([settings.get("columns", "")], delimiter=separator), [])
    special = {int(place): name.removesuffix(" column") for name, place in settings.items() if name.endswith(" column")}
    fields = iter(("front", "back", *(f"field {number}" for number in range(3, width + 1))))
    return named + [special.get(place) or next(fields) for place in range(len(named) + 1, width + 1)]


def _swallowed(cells: pd.DataFrame, separator: str) -> Iterable[tuple[int, int]]:
    """Rows with a cell that holds other rows, because its quote is not closed where the cell ends.

    Such a cell has line breaks, and each line after its first is a whole row. No row in it has a quote, which would
    have closed the cell. Lines of an answer may look like this, so fewer than :data:`SWALLOWED_ROWS` do not count.

    Yields
    ------
    place of the row, and number of rows that its cell holds.
    """
    columns = len(cells.columns)
    for name in cells.columns if columns > 1 else ():
        for place in cells.index[cells[name].str.count("\n") >= SWALLOWED_ROWS]:
            rows = cells[name][place].split("\n")[1:]
            if all(row.count(separator) == columns - 1 for row in rows):
                yield place, len(rows)


def _records(text: str, by_line: bool) -> Table:
    """JSON: a list of objects, an object whose ``data`` is such a list, or an object per line.

    Parameters
    ----------
    by_line : whether a single object is a line.
    """
    read_as = "JSON"
    try:
        found = json.loads(text)
    except ValueError:
        if not text.lstrip().startswith("{") or "\n" not in text.strip():
            raise
        found, read_as = _lines(text), "JSON lines"
    if isinstance(found, dict) and isinstance(found.get("data"), list):
        found = found["data"]
        if squad := list(_squad(found)):
            found, read_as = squad, "SQuAD"
    if by_line and isinstance(found, dict):
        found, read_as = [found], "JSON lines"
    if not isinstance(found, list) or not all(isinstance(record, dict) for record in found):
        raise ValueError("it must hold a list of objects, each with a question and an answer")
    return Table(pd.DataFrame(found, dtype=object), read_as)


def _lines(text: str) -> list:
    records = []
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            try:
                records.append(json.loads(line))
            except ValueError as error:
                raise ValueError(f"line {number}: {error}") from None
    return records


def _squad(articles: list) -> Iterable[dict]:
    """The questions of a data set in the format of SQuAD (Rajpurkar et al., 2016), each with its answers."""
    for article in articles:
        for paragraph in article.get("paragraphs", ()) if isinstance(article, dict) else ():
            for asked in paragraph.get("qas", ()) if isinstance(paragraph, dict) else ():
                texts = [answer["text"] for answer in asked.get("answers", ()) if "text" in answer]
                yield {"question": asked.get("question"), "answer": texts}
