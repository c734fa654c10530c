"""Decks: reading, cleaning, relevant answers, saving. Expected values were worked out by hand."""

import json

import pandas as pd
import pytest
import tiny

from medcards import InputError
from medcards.deck import cards
from medcards.deck.description import cleaning_report, count_duplicates, group_sizes, split_contents
from medcards.deck.relevance import relevant_answers
from medcards.deck.sources import read_ontology

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


def test_ontology_branches_are_the_children_of_the_widest_class(tmp_path):
    """Phenotype holds most terms, so its children Eye and Ear replace it. "Both" lies in two branches."""
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


def test_definition_question_depends_on_the_term_id_only(tmp_path):
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
    table, material = tiny.read_deck_files(file, "input", "output")
    assert table.question.tolist() == ["Is NA a number?", "007"]
    assert table.answer.tolist() == ["No, “NA”\nis not.", ""]
    assert material["rows"] == 2 and list(material["files"]) == [file.name]


def test_a_folder_of_deck_files_is_read_as_one_deck(tmp_path):
    (tmp_path / "b.csv").write_text("ask,reply\nq2,a2\n")
    (tmp_path / "a.jsonl").write_text('{"ask": "q1", "reply": "a1"}')
    (tmp_path / "README.md").write_text("not a deck")
    table, _ = tiny.read_deck_files(tmp_path, "ask", "reply")
    assert table.question.tolist() == ["q1", "q2"]
    assert table.source.tolist() == ["file:a.jsonl", "file:b.csv"]


def test_cleaning_counts_every_change_and_drop():
    rows = [
        ("cafe\u0301?", "a"),
        ("q", " b\n c "),
        ("q", "b c"),
        ("", "x"),
        ("x", "\t"),
        ("q\u200b", "b \x00c!"),
        ("dropped by", "the source"),
    ]
    table, counts, examples = cards.clean([raw(*rows, drop=["", "", "", "", "", "", "by_source"])])
    assert table.question.tolist() == ["café?", "q", "q"]
    assert table.answer.tolist() == ["a", "b c", "b c!"]
    assert counts == {
        "rows_read": 7,
        "changed_media": 0,
        "changed_html": 0,
        "changed_cloze": 0,
        "changed_unicode": 1,
        "changed_invisible": 1,
        "changed_whitespace": 2,
        "dropped_by_source": 1,
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
        "dropped_by_source": 7,
        "dropped_blank_question": 4,
        "dropped_blank_answer": 5,
        "dropped_duplicate": 3,
    }
    assert examples[examples.reason == "changed_invisible"].answer.tolist() == ["b \x00c!"]  # before cleaning
    report = cleaning_report(counts, examples)
    assert report.startswith("# Cleaning\n\n- rows_read: 7 rows\n")
    assert '## changed_invisible, first 1 of 1\n\n- row 6: "q\\u200b" / "b \\u0000c!"\n' in report


def test_cleaning_refuses_a_deck_without_usable_rows():
    with pytest.raises(InputError, match="no usable row among the 1 read"):
        cards.clean([raw((" ", "a"))])


def test_relevant_answers_are_all_copies_and_the_whole_concept():
    table, _, _ = cards.clean(
        [raw(("A?", "One."), ("B?", "one"), ("a", "two"), ("C?", "three"), ("D?", "x"), ("E?", "y"))]
    )
    table["concept"] = ["", "", "", "", "HP:1", "HP:1"]
    table.loc[5, "query_set"] = "layperson"
    ids = table.card_id.tolist()
    found = relevant_answers(table, cards.corpus(table))
    assert found[0] == {ids[0], ids[1], ids[2]}  # its own card, the card with its answer, the card with its question
    assert found[1] == {ids[0], ids[1]}
    assert found[3] == {ids[3]}
    assert found[5] == {ids[4]}  # the card of its concept in the corpus


def twenty_cards() -> pd.DataFrame:
    table, _, _ = cards.clean([raw(*[(f"q{n}", f"a{n}") for n in range(20)])])
    return table.assign(group=table.card_id, split=["train"] * 16 + ["validation"] * 2 + ["test"] * 2)


def test_saved_cards_and_material_are_read_back(tmp_path):
    table = twenty_cards()
    cards.save_cards(table, tmp_path, {"source": "test", "rows": 20})
    assert cards.load_cards(tmp_path).set_index("card_id").split.to_dict() == table.set_index("card_id").split.to_dict()
    assert cards.read_material(tmp_path) == {"source": "test", "rows": 20}
    assert json.loads((tmp_path / "manifest.json").read_text())["cards"] == 20


def test_missing_cards_and_manifest_name_the_stage(tmp_path):
    with pytest.raises(InputError, match="manifest.json is missing: run `dvc repro prepare`"):
        cards.load_cards(tmp_path)
    with pytest.raises(InputError, match="manifest.json is missing: run `dvc repro prepare`"):
        cards.read_material(tmp_path)


def test_description_counts_duplicates_groups_and_splits():
    table = twenty_cards()
    table.loc[1, ["question", "group"]] = ["Q0!", table.group[0]]  # equal to q0 after normalisation
    table.loc[[0, 1, 2, 19], "answer"] = ["Yes.", "yes", "Yes", "Yes!"]  # cards 0 and 1 are in one group
    pairs = pd.DataFrame({"first": [0, 2, 15], "second": [1, 3, 16]})
    assert count_duplicates(table, pairs) == {
        "cards_with_equal_question": 2,
        "cards_with_equal_answer": 4,
        "cards_with_equal_answer_in_another_group": 4,
        "test_cards_with_equal_answer_in_training": 1,
        "near_duplicate_pairs": 3,
        "near_duplicate_pairs_across_groups": 2,
        "near_duplicate_pairs_across_splits": 1,
    }
    assert group_sizes(table) == {"count": 19, "largest": 2, "largest_share": 0.1, "with_several_cards": 1}
    assert split_contents(table)["train"] == {
        "cards": 16,
        "groups": 15,
        "answer_characters_quartiles": [2, 3, 3],
        "own": 16,
    }
