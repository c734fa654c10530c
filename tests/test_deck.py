"""From raw text to cards, groups and splits: hand-checked."""

import json

import numpy as np
import pandas as pd
import pytest

from medcards import InputError, cards
from medcards.sources import read_files, read_ontology
from medcards.splits import draw_groups, group_cards, split_by_group

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
    return table.assign(**({"concept": "", "query_set": "own", "source": "test"} | columns))


def test_ontology(tmp_path):
    (tmp_path / "hp.obo").write_text(OBO)
    table, material = read_ontology(tmp_path / "hp.obo", "here")
    assert table.answer.tolist() == [
        'Teeth that do not "fit".',
        'Dental malocclusion: Teeth that do not "fit".',
        "A raised body temperature.",
    ]
    assert table.question[1] == "What does 'Crooked teeth' mean?"
    assert "Dental malocclusion" in table.question[0]
    assert table.concept.tolist() == ["HP:1", "HP:1", "HP:4"]
    assert table.query_set.tolist() == ["own", "layperson", "own"]
    assert material == {
        "reference": "here",
        "release": "hp/releases/2000-01-01",
        "definitions": 2,
        "layperson_synonyms": 1,
        "dropped_synonym_equals_name": 1,
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
    table, counts = cards.clean(
        raw(("cafe\u0301?", "a"), ("q", " b\n c "), ("q", "b c"), ("", "x"), ("x", "\t"), ("q", "b c!"))
    )
    assert table.question.tolist() == ["café?", "q", "q"]
    assert table.answer.tolist() == ["a", "b c", "b c!"]
    assert counts == {
        "rows_read": 6,
        "changed_unicode": 1,
        "changed_whitespace": 2,
        "dropped_blank_question": 1,
        "dropped_blank_answer": 1,
        "dropped_duplicate": 1,
        "kept": 3,
    }
    assert table.card_id[1] == cards.card_id("q", "b c") == "464927f68e167192"


def test_nothing_usable():
    with pytest.raises(InputError, match="no usable row among the 1 read"):
        cards.clean(raw((" ", "a")))


def test_groups_are_chains_of_equal_question_answer_or_concept():
    table, _ = cards.clean(
        raw(
            ("What is A?", "one"), ("what is a", "two"), ("B?", "Two."), ("C?", "three"), ("D?", "four"), ("E?", "five")
        )
    )
    table.loc[[3, 4], "concept"] = ["HP:9", "HP:9"]
    groups = group_cards(table).tolist()
    assert groups[0] == groups[1] == groups[2] == min(table.card_id[:3])
    assert groups[3] == groups[4] == "HP:9"
    assert groups[5] == table.card_id[5]


def test_split_keeps_groups_whole_and_shares_right():
    groups = pd.Series(np.repeat(np.arange(500), 2).astype(str))
    split = split_by_group(groups, 0.1, 0.2, seed=1)
    assert split.groupby(groups).nunique().max() == 1
    assert split.value_counts().to_dict() == {"train": 700, "test": 200, "validation": 100}
    assert split.equals(split_by_group(groups, 0.1, 0.2, seed=1))
    assert not split.equals(split_by_group(groups, 0.1, 0.2, seed=2))


def test_too_small_to_split():
    with pytest.raises(InputError, match="too small to split: 6 cards in 2 groups"):
        split_by_group(pd.Series(["a", "a", "a", "b", "b", "b"]), 0.1, 0.1, seed=0)


def test_draw_groups_takes_whole_groups():
    table = pd.DataFrame({"group": ["a", "b", "b", "c", "c", "c"]})
    drawn = draw_groups(table, 4, seed=0)
    assert 1 <= len(drawn) <= 4
    whole = table.group.value_counts()
    assert all(count == whole[group] for group, count in drawn.group.value_counts().items())


def test_relevant_answers_are_all_copies_and_the_whole_concept():
    table, _ = cards.clean(raw(("A?", "One."), ("B?", "one"), ("a", "two"), ("C?", "three"), ("D?", "x"), ("E?", "y")))
    table["concept"] = ["", "", "", "", "HP:1", "HP:1"]
    table.loc[5, "query_set"] = "layperson"
    ids = table.card_id.tolist()
    found = cards.relevant_answers(table, cards.corpus(table))
    assert found[0] == {ids[0], ids[1], ids[2]}  # itself, the same answer, the same question
    assert found[1] == {ids[0], ids[1]}
    assert found[3] == {ids[3]}
    assert found[5] == {ids[4]}  # a layperson question is answered by its concept's card


def test_saved_cards_come_back(tmp_path):
    table, _ = cards.clean(raw(*[(f"q{n}", f"a{n}") for n in range(20)]))
    table["group"] = group_cards(table)
    table["split"] = split_by_group(table.group, 0.1, 0.1, seed=0)
    cards.save(table, tmp_path)
    assert cards.load(tmp_path).set_index("card_id").split.to_dict() == table.set_index("card_id").split.to_dict()
