"""From raw text to cards: hand-checked."""

import json

import pandas as pd
import pytest

from medcards import InputError
from medcards.deck import cards
from medcards.deck.sources import read_files, read_ontology

OBO = r"""format-version: 1.2
data-version: hp/releases/2000-01-01
synonymtypedef: layperson "layperson term"

[Term]
id: HP:1
name: Dental malocclusion
def: "Teeth that do not \"fit\"." [PMID:1]
synonym: "Crooked teeth" EXACT layperson [PMID:2]
synonym: "dental malocclusion" EXACT layperson []
synonym: "Malocclusion" EXACT []

[Term]
id: HP:2
name: Without definition
synonym: "Nothing" EXACT layperson []

[Term]
id: HP:3
name: Gone
def: "Was here." []
is_obsolete: true

[Term]
id: HP:4
name: Fever
def: "A raised body temperature." []
"""


def raw(*rows, **columns) -> pd.DataFrame:
    table = pd.DataFrame(rows, columns=["question", "answer"])
    other = {"concept": "", "branch": "", "query_set": "own", "source": "test", "drop": ""}
    return table.assign(**(other | columns))


def test_ontology(tmp_path):
    (tmp_path / "hp.obo").write_text(OBO)
    table, material = read_ontology(tmp_path / "hp.obo", "here")
    assert table.answer.tolist() == [
        'Teeth that do not "fit".',
        'Dental malocclusion: Teeth that do not "fit".',
        'Dental malocclusion: Teeth that do not "fit".',
        "A raised body temperature.",
    ]
    assert table["drop"].tolist() == ["", "", "synonym_equals_name", ""]
    assert table.question[1] == "What does 'Crooked teeth' mean?"
    assert "Dental malocclusion" in table.question[0]
    assert table.concept.tolist() == ["HP:1", "HP:1", "HP:1", "HP:4"]
    assert table.query_set.tolist() == ["own", "layperson", "layperson", "own"]
    assert material == {
        "reference": "here",
        "release": "hp/releases/2000-01-01",
        "definitions": 2,
        "layperson_synonyms": 2,
        "terms_without_definition": 1,
    }


def test_branches_are_the_children_of_the_widest_class(tmp_path):
    """All holds Phenotype, which holds nearly everything, so the branches are Eye, Ear and Mode; Both is in two."""
    parents = {
        "Phenotype": ["All"],
        "Mode": ["All"],
        "Eye": ["Phenotype"],
        "Ear": ["Phenotype"],
        "Red eye": ["Eye"],
        "Very red eye": ["Red eye"],
        "Long ear": ["Ear"],
        "Both": ["Eye", "Ear"],
    }
    terms = ['[Term]\nid: All\nname: All\ndef: "All." []\n']
    for name, above in parents.items():
        lines = "".join(f"is_a: {parent}\n" for parent in above)
        terms.append(f'[Term]\nid: {name}\nname: {name}\ndef: "{name}." []\n{lines}')
    (tmp_path / "a.obo").write_text("format-version: 1.2\n\n" + "\n".join(terms))
    branch = read_ontology(tmp_path / "a.obo")[0].set_index("concept").branch.to_dict()
    assert branch == {
        "All": "",
        "Phenotype": "",
        "Mode": "Mode",
        "Eye": "Eye",
        "Ear": "Ear",
        "Red eye": "Eye",
        "Very red eye": "Eye",
        "Long ear": "Ear",
        "Both": "",
    }


def test_the_way_of_asking_is_a_function_of_the_term(tmp_path):
    terms = [f'[Term]\nid: HP:{n}\nname: Name{n}\ndef: "Text {n}." []\n' for n in range(40)]
    (tmp_path / "a.obo").write_text("format-version: 1.2\n\n" + "\n".join(terms))
    (tmp_path / "b.obo").write_text("format-version: 1.2\n\n" + "\n".join(terms[::-1][:20]))
    first, second = (read_ontology(tmp_path / name)[0].set_index("concept").question for name in ("a.obo", "b.obo"))
    assert first[second.index].equals(second)
    assert len({question.replace(f"Name{n}", "") for n, question in enumerate(first)}) == 4


@pytest.mark.parametrize("suffix", ["json", "jsonl", "csv", "parquet"])
def test_every_file_format_gives_the_same_cards(tmp_path, suffix):
    rows = [
        {"instruction": "i", "input": "Is NA a number?", "output": "No, “NA”\nis not."},
        {"input": "007", "output": None},
    ]
    file = tmp_path / f"deck.{suffix}"
    if suffix == "json":
        file.write_text(json.dumps(rows))
    elif suffix == "jsonl":
        file.write_text("\n".join(map(json.dumps, rows)) + "\n")
    elif suffix == "csv":
        pd.DataFrame(rows).to_csv(file, index=False)
    else:
        pd.DataFrame(rows).to_parquet(file)
    table, material = read_files(file, "input", "output")
    assert table.question.tolist() == ["Is NA a number?", "007"]
    assert table.answer.tolist() == ["No, “NA”\nis not.", ""]
    assert material["rows"] == 2 and list(material["files"]) == [file.name]


def test_a_folder_is_all_its_files(tmp_path):
    (tmp_path / "b.csv").write_text("ask,reply\nq2,a2\n")
    (tmp_path / "a.jsonl").write_text('{"ask": "q1", "reply": "a1"}')
    (tmp_path / "README.md").write_text("not a deck")
    table, _ = read_files(tmp_path, "ask", "reply")
    assert table.question.tolist() == ["q1", "q2"]
    assert table.source.tolist() == ["file:a.jsonl", "file:b.csv"]


def test_cleaning_counts_everything():
    rows = [
        ("cafe\u0301?", "a"),
        ("q", " b\n c "),
        ("q", "b c"),
        ("", "x"),
        ("x", "\t"),
        ("q\u200b", "b \x00c!"),
        ("as told", "to"),
    ]
    table, counts, examples = cards.clean(raw(*rows, drop=["", "", "", "", "", "", "told_to"]))
    assert table.question.tolist() == ["café?", "q", "q"]
    assert table.answer.tolist() == ["a", "b c", "b c!"]
    assert counts == {
        "rows_read": 7,
        "changed_unicode": 1,
        "changed_invisible": 1,
        "changed_whitespace": 2,
        "dropped_told_to": 1,
        "dropped_blank_question": 1,
        "dropped_blank_answer": 1,
        "dropped_duplicate": 1,
        "kept": 3,
    }
    assert table.card_id[1] == cards.card_id("q", "b c") == "464927f68e167192"
    assert examples.set_index("reason").row.to_dict() == {
        "changed_unicode": 1,
        "changed_invisible": 6,
        "changed_whitespace": 5,  # after row 2
        "dropped_told_to": 7,
        "dropped_blank_question": 4,
        "dropped_blank_answer": 5,
        "dropped_duplicate": 3,
    }
    assert examples[examples.reason == "changed_invisible"].answer.tolist() == ["b \x00c!"]  # as it was read


def test_nothing_usable():
    with pytest.raises(InputError, match="no usable row among the 1 read"):
        cards.clean(raw((" ", "a")))


def test_relevant_answers_are_all_copies_and_the_whole_concept():
    table, _, _ = cards.clean(
        raw(("A?", "One."), ("B?", "one"), ("a", "two"), ("C?", "three"), ("D?", "x"), ("E?", "y"))
    )
    table["concept"] = ["", "", "", "", "HP:1", "HP:1"]
    table.loc[5, "query_set"] = "layperson"
    ids = table.card_id.tolist()
    found = cards.relevant_answers(table, cards.corpus(table))
    assert found[0] == {ids[0], ids[1], ids[2]}  # itself, the same answer, the same question
    assert found[1] == {ids[0], ids[1]}
    assert found[3] == {ids[3]}
    assert found[5] == {ids[4]}  # a layperson question is answered by its concept's card


def test_saved_cards_come_back(tmp_path):
    table, _, _ = cards.clean(raw(*[(f"q{n}", f"a{n}") for n in range(20)]))
    table = table.assign(group=table.card_id, split=["train"] * 16 + ["validation"] * 2 + ["test"] * 2)
    cards.save(table, tmp_path)
    assert cards.load(tmp_path).set_index("card_id").split.to_dict() == table.set_index("card_id").split.to_dict()
