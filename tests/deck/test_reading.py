"""Deck files as people have them: what is recognised, and what becomes of each row."""

import json
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pytest
import tiny
from pyarrow import parquet

from medcards import InputError
from medcards.deck.cards import clean
from medcards.deck.tables import decode

CARDS = [("What is gout?", "An arthritis, with crystals."), ("What is asthma?", "A disease of the airways.")]


def read(file: Path, content: str | bytes, question: str = "auto", answer: str = "auto") -> tuple[list, dict]:
    """The cards of a file, and what was recognised in it."""
    file.write_bytes(content.encode() if isinstance(content, str) else content)
    raw, material = tiny.read_deck_files(file, question, answer)
    return list(zip(raw.question, raw.answer, strict=True)), material["files"][file.name]


def lines(separator: str, head: tuple[str, str] = ("question", "answer")) -> str:
    rows = [head, *((question, f'"{answer}"') for question, answer in CARDS)]
    return "".join(f"{separator.join(row)}\n" for row in rows)


@pytest.mark.parametrize(
    ("separator", "name"), [(",", "comma"), (";", "semicolon"), ("\t", "tab"), ("|", "pipe")], ids=lambda value: value
)
@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".txt"])
def test_the_separator_is_recognised_by_content(tmp_path, separator, name, suffix):
    cards, file = read(tmp_path / f"deck{suffix}", lines(separator))
    assert cards == CARDS and file["read_as"] == f"CSV, separator {name}"


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        ("Qu'est-ce que c'est ?;Une atteinte sévère de l’œil, très fréquente à cet âge…", "cp1252"),
        ("What is it?;A plain answer, in a naïve Café.", "cp1252"),
        ("Что такое болезнь?;Это заболевание сердца, часто у детей.", "cp1251"),
        ("Co je nemoc?;Zánět žaludku, častý u dětí, špatně působí na šlachy.", "cp1250"),
        ("Τι είναι η νόσος;Μια πάθηση της καρδιάς, συχνή στα παιδιά.", "cp1253"),
        ("病気とは何ですか？;それは心臓の病気で、子供によく見られます。", "shift_jis"),
        ("什么是疾病？;心脏的疾病，常见于儿童。", "gb18030"),
    ],
)
def test_an_encoding_is_guessed(text, encoding):
    lines = "\n".join(["question;answer", *[text] * 20])
    assert decode(lines.encode(encoding)) == (lines, encoding)


def test_excel_names_its_separator(tmp_path):
    cards, file = read(tmp_path / "deck.csv", "sep=;\r\n" + lines(";"))
    assert cards == CARDS and file["read_as"] == "CSV, separator semicolon"


@pytest.mark.parametrize(
    ("encoding", "said"),
    [
        ("utf-8", ""),
        ("utf-8-sig", ""),
        ("utf-16", "utf-16"),
        ("utf-16-le", "utf-16-le"),
        ("utf-16-be", "utf-16-be"),
        ("cp1252", "cp1252"),
    ],
)
def test_the_encoding_is_recognised(tmp_path, encoding, said):
    german = [
        (f"Was ist die Störung Nummer {number}?", f"Eine Entzündung der Füße, größer als {number} cm.")
        for number in range(9)
    ]
    content = "".join(f"{question};{answer}\n" for question, answer in [("Frage", "Antwort"), *german])
    cards, file = read(tmp_path / "deck.csv", content.encode(encoding))
    assert cards == german and said in file["read_as"]
    assert file["columns"] == {"question": "column 'Frage'", "answer": "column 'Antwort'"}


@pytest.mark.parametrize("head", [("0", "1"), ("null", "True"), ("Vorderseite", "Rückseite"), ("Side A", "it's")])
def test_of_two_columns_the_first_holds_the_questions(tmp_path, head):
    assert read(tmp_path / "deck.csv", lines(",", head))[0] == CARDS
    swapped, file = read(tmp_path / "deck.csv", lines(",", head), question=head[1], answer=head[0])
    assert swapped == [(answer, question) for question, answer in CARDS]
    assert file["columns"]["question"] == f"column '{head[1]}'"


@pytest.mark.parametrize(
    ("content", "cards"),
    [
        ("meaning,term\nAn arthritis,Gout\n", [("Gout", "An arthritis")]),
        ("answer,clue\nGout,An arthritis\n", [("An arthritis", "Gout")]),
        (
            "term\tdefinition, long\nGout\tAn arthritis, often of the toe\n",
            [("Gout", "An arthritis, often of the toe")],
        ),
        (
            "Frage (kurz, knapp);Antwort (lang, genau)\nWas?;Das, und das\nWer?;Er, sie\n",
            [("Was?", "Das, und das"), ("Wer?", "Er, sie")],
        ),
    ],
)
def test_one_known_column_leaves_the_other(tmp_path, content, cards):
    assert read(tmp_path / "deck.csv", content)[0] == cards


def test_a_given_column_leaves_the_other(tmp_path):
    assert read(tmp_path / "deck.csv", "A,B\nGout,Why?\n", question="B")[0] == [("Why?", "Gout")]
    with pytest.raises(InputError, match="are both 'A'"):
        read(tmp_path / "deck.csv", "A,B\nGout,Why?\n", question="A", answer="A")


def test_a_cell_that_swallows_rows_is_dropped_and_named(tmp_path):
    rows = [f"What is word{number}?,A disease of number {number}." for number in range(10)]
    rows[2], rows[7] = 'What is it?,"A cyst', 'What else?,a mass"'
    (tmp_path / "deck.csv").write_text("\n".join(["question,answer", *rows]))
    raw, material = tiny.read_deck_files(tmp_path / "deck.csv", "auto", "auto")
    assert material["files"]["deck.csv"]["open_quotes"] == {"3": 5}  # rows 4 to 8 are in row 3
    cards, counts, _ = clean([raw])
    assert counts["dropped_open_quote"] == 1 and len(cards) == 4


@pytest.mark.parametrize(
    "text",
    [
        "An arthritis.\nIt hurts, often at night.\nIt comes and goes.\nRest helps.",
        "fever, high\ncough, dry\nmyalgia, severe\nrest",
        "red, painful\nswollen, hot",
    ],
)
def test_a_cell_may_have_line_breaks(tmp_path, text):
    cards, file = read(tmp_path / "deck.csv", f'question,answer\nWhat is gout?,"{text}"\n')
    assert cards == [("What is gout?", text)] and file["open_quotes"] == {}


def test_notes_of_anki_obey_their_head(tmp_path):
    notes = (
        "#separator:tab\n#html:true\n#guid column:1\n#notetype column:2\n#deck column:3\n#tags column:6\n"
        "a1\tBasic\tMed\tWhat is gout?\t<b>An arthritis</b>&nbsp;of <i>joints</i>.<br>It hurts.\ttag\n"
        'a2\tBasic\tMed\t{{c1::Asthma::which?}} is a disease.\t"With a ""wheeze"" [sound:a.mp3]"\ttag\n'
        'a3\tBasic\tMed\tWhat is this?\t"<img src=""x.jpg"">"\ttag\n'
    )
    (tmp_path / "notes.txt").write_text(notes)
    raw, material = tiny.read_deck_files(tmp_path / "notes.txt", "auto", "auto")
    cards, counts, _ = clean([raw])
    assert cards.question.tolist() == ["What is gout?", "Asthma is a disease."]
    assert cards.answer.tolist() == ["An arthritis of joints. It hurts.", 'With a "wheeze"']
    assert (counts["changed_media"], counts["changed_html"], counts["changed_cloze"]) == (2, 1, 1)
    assert counts["dropped_blank_answer"] == 1
    assert material["files"]["notes.txt"]["read_as"] == "notes of Anki, separator tab"


@pytest.mark.parametrize("separator", ["\\t", "\t", "tab", "Tab"])
def test_anki_names_its_tab_in_several_ways(tmp_path, separator):
    notes = f"#separator:{separator}\n#html:true\nWhat is gout?\tAn arthritis.\textra\nWhat is asthma?\tA disease.\n"
    assert read(tmp_path / "notes.txt", notes)[0] == [
        ("What is gout?", "An arthritis."),
        ("What is asthma?", "A disease."),
    ]


@pytest.mark.parametrize(
    ("notes", "says"), [("#separator:none\na b\n", "is no separator"), ("#separator:tab\n", "no note")]
)
def test_a_wrong_head_of_anki_is_one_line(tmp_path, notes, says):
    with pytest.raises(InputError, match=says):
        read(tmp_path / "notes.txt", notes)


def test_notes_of_anki_without_html_keep_their_signs(tmp_path):
    cards, _ = read(tmp_path / "notes.txt", "#separator:semicolon\n#html:false\nWhat is <b>?;A tag of HTML\n")
    raw, _ = tiny.read_deck_files(tmp_path / "notes.txt", "auto", "auto")
    assert clean([raw])[0].question.tolist() == ["What is <b>?"]


def test_a_sign_of_comparison_is_no_markup(tmp_path):
    signs = [("Is p<0.05 and p > 0.01?", "Yes: x < y & y > z, a<b."), ("Power?", "10<sup>9</sup>/L")]
    signs.append(("Is x<p or y>z?", "<i>Na</i> if a<b and c>d"))
    (tmp_path / "deck.json").write_text(json.dumps([{"question": q, "answer": a} for q, a in signs]))
    cards = clean([tiny.read_deck_files(tmp_path / "deck.json", "auto", "auto")[0]])[0]
    assert cards.answer.tolist() == ["Yes: x < y & y > z, a<b.", "10⁹/L", "Na if a<b and c>d"]
    assert cards.question.tolist() == ["Is p<0.05 and p > 0.01?", "Power?", "Is x<p or y>z?"]


def turn(speaker: str, text: str, names: tuple[str, str] = ("role", "content")) -> dict:
    return {names[0]: speaker, names[1]: text}


SHAPES = {
    "records": [{"question": question, "answer": answer} for question, answer in CARDS],
    "data": {"data": [{"front": question, "back": answer} for question, answer in CARDS]},
    "squad": {
        "data": [
            {
                "title": "t",
                "paragraphs": [
                    {
                        "context": "c",
                        "qas": [
                            {"question": question, "answers": [{"text": answer, "answer_start": 0}, {"text": "other"}]}
                            for question, answer in CARDS
                        ],
                    }
                ],
            }
        ]
    },
    "squad of the hub": [
        {"id": "1", "context": "c", "question": question, "answers": {"text": [answer], "answer_start": [0]}}
        for question, answer in CARDS
    ],
    "answers": [{"question": question, "answer": [answer, "other"]} for question, answer in CARDS],
    "alpaca": [{"instruction": question, "input": "", "output": answer} for question, answer in CARDS],
    "the published deck": [
        {"instruction": "Answer this question truthfully", "input": question, "output": answer}
        for question, answer in [*CARDS, *CARDS[:1]]
    ],
    "messages": [
        {
            "messages": [
                turn("system", "Be brief."),
                turn("user", question),
                turn("assistant", answer),
                turn("user", "Why?"),
            ]
        }
        for question, answer in CARDS
    ],
    "conversations": [
        {"id": 1, "conversations": [turn("human", question, ("from", "value")), turn("gpt", answer, ("from", "value"))]}
        for question, answer in CARDS
    ],
    "prompt and completion": [
        {"prompt": [turn("user", question)], "completion": [turn("assistant", answer)]} for question, answer in CARDS
    ],
}
"""Shapes of JSON that people have, all with the same two cards."""


@pytest.mark.parametrize("shape", SHAPES)
def test_known_shapes_give_the_same_cards(tmp_path, shape):
    assert read(tmp_path / "deck.json", json.dumps(SHAPES[shape]))[0][:2] == CARDS
    if isinstance(SHAPES[shape], list):
        by_line = "\n".join(json.dumps(record) for record in SHAPES[shape])
        assert read(tmp_path / "deck.jsonl", by_line)[0][:2] == CARDS
        pd.DataFrame(SHAPES[shape]).to_parquet(tmp_path / "made.parquet")
        assert read(tmp_path / "deck.parquet", (tmp_path / "made.parquet").read_bytes())[0][:2] == CARDS


def test_the_instruction_is_followed_by_the_input_where_there_is_one(tmp_path):
    rows = [
        {"instruction": "What is gout?", "input": "The patient is 40.", "output": "An arthritis."},
        {"instruction": "What is asthma?", "input": "", "output": "A disease."},
        {"instruction": "What is fever?", "input": None, "output": "Heat."},
    ]
    cards, file = read(tmp_path / "deck.json", json.dumps(rows))
    assert [question for question, _ in cards] == [
        "What is gout? The patient is 40.",
        "What is asthma?",
        "What is fever?",
    ]
    assert "followed by 'input'" in file["columns"]["question"]
    assert read(tmp_path / "deck.json", json.dumps(rows), question="input")[0][1] == ("", "A disease.")


def test_repeated_instructions_are_questions_where_the_input_is_empty(tmp_path):
    rows = [{"instruction": "What is gout?", "input": "", "output": f"Answer {number}."} for number in range(3)]
    rows.append({"instruction": None, "input": "What is asthma?", "output": "A disease."})
    cards, _ = read(tmp_path / "deck.json", json.dumps(rows))
    assert [question.strip() for question, _ in cards] == ["What is gout?"] * 3 + ["What is asthma?"]


def test_a_completion_answers_the_last_turn_of_its_prompt(tmp_path):
    prompt = [turn("user", "Hello"), turn("assistant", "Hi"), turn("user", "What is gout?")]
    rows = [{"prompt": prompt, "completion": [turn("assistant", "An arthritis.")]}]
    assert read(tmp_path / "deck.json", json.dumps(rows))[0] == [("What is gout?", "An arthritis.")]
    greeting = [{"messages": [turn("assistant", "Hello"), *prompt[2:], turn("assistant", "An arthritis.")]}]
    assert read(tmp_path / "deck.json", json.dumps(greeting))[0] == [("What is gout?", "An arthritis.")]


def test_a_squad_file_without_answers_has_blank_ones(tmp_path):
    squad = {"data": [{"paragraphs": [{"context": "c", "qas": [{"question": "Why?"}]}, {"context": "d"}, "text"]}]}
    assert read(tmp_path / "deck.json", json.dumps(squad))[0] == [("Why?", "")]


def test_rows_with_several_answers_and_turns_are_counted(tmp_path):
    assert read(tmp_path / "deck.json", json.dumps(SHAPES["answers"]))[1]["columns"]["several_answers"] == 2
    assert read(tmp_path / "deck.json", json.dumps(SHAPES["messages"]))[1]["columns"]["several_turns"] == 2


@pytest.mark.parametrize("cell", [{"a": 1}, [["x"]], [1, 2], [{"role": "user"}]], ids=str)
def test_a_cell_of_unknown_shape_is_refused_by_row_and_column(tmp_path, cell):
    rows = [{"question": "What is gout?", "answer": "An arthritis."}, {"question": "Why?", "answer": cell}]
    with pytest.raises(InputError, match=r"deck.json: column 'answer', row 2: .* neither a text nor a known shape"):
        read(tmp_path / "deck.json", json.dumps(rows))


def test_bytes_are_refused(tmp_path):
    pd.DataFrame({"question": ["What is gout?"], "answer": [b"\x00\x01"]}).to_parquet(tmp_path / "deck.parquet")
    with pytest.raises(InputError, match="column 'answer', row 1: b'"):
        tiny.read_deck_files(tmp_path / "deck.parquet", "auto", "auto")


@pytest.mark.parametrize(
    ("name", "says"),
    [("deck.apkg", "Notes in Plain Text"), ("deck.xlsx", "CSV UTF-8"), ("deck.pdf", "a deck is one of .json")],
)
def test_other_formats_are_refused_with_what_to_do(tmp_path, name, says):
    with pytest.raises(InputError, match=says):
        read(tmp_path / name, "x")


def test_columns_that_nobody_knows_are_named(tmp_path):
    with pytest.raises(InputError, match=r"called question or .* \(found: a, b, c\); set data.question_column"):
        read(tmp_path / "deck.csv", "a,b,c\n1,2,3\n")


def test_the_notes_that_this_project_writes_are_read(tmp_path):
    from medcards.report.anki import as_html, write_notes

    cards = [("What is <b>gout</b>?", 'Pain, "arthritis" & more.'), ("Is p < 0.05?", "Yes,\tso it is.")]
    notes = [(f"id{place}", as_html(one), as_html(other), "test") for place, (one, other) in enumerate(cards)]
    write_notes(notes, "My deck", tmp_path / "notes.txt")
    raw, material = tiny.read_deck_files(tmp_path / "notes.txt", "auto", "auto")
    assert clean([raw])[0][["question", "answer"]].to_numpy().tolist() == [
        list(cards[0]),
        ["Is p < 0.05?", "Yes, so it is."],
    ]
    assert material["files"]["notes.txt"]["columns"] == {"question": "column 'Front'", "answer": "column 'Back'"}


def test_a_list_in_a_parquet_file_of_one_row(tmp_path):
    row = {"question": ["What is gout?"], "answer": [["An arthritis.", "A disease of joints."]]}
    pd.DataFrame(row).to_parquet(tmp_path / "deck.parquet")
    raw, _ = tiny.read_deck_files(tmp_path / "deck.parquet", "auto", "auto")
    assert raw.answer.tolist() == ["An arthritis."]


def test_columns_of_categories_in_a_parquet_file_are_texts(tmp_path):
    """The instruction is the question, followed by its input, as in decks of Alpaca's format."""
    rows = {
        "instruction": ["What is gout?", "Name"],
        "input": ["", "a fever."],
        "output": ["An arthritis.", "Malaria."],
    }
    pd.DataFrame(rows).astype("category").to_parquet(tmp_path / "deck.parquet")
    raw, _ = tiny.read_deck_files(tmp_path / "deck.parquet", "auto", "auto")
    assert raw.question.tolist() == ["What is gout?", "Name a fever."] and raw.answer.tolist() == rows["output"]


@pytest.mark.parametrize("text", [b"What is \x80gout?", b"\xff", b"\xed\xa0\x80"])
def test_texts_in_a_parquet_file_that_are_not_utf_8(text, tmp_path):
    """Arrow writes and reads such texts without a word."""
    binary = pa.array([b"What is asthma?", text])
    broken = pa.StringArray.from_buffers(len(binary), binary.buffers()[1], binary.buffers()[2])
    table = pa.table({"question": broken, "answer": ["A disease.", "An arthritis."]})
    parquet.write_table(table, tmp_path / "deck.parquet")
    with pytest.raises(InputError, match="deck.parquet: could not be read as parquet .*UTF8"):
        tiny.read_deck_files(tmp_path / "deck.parquet", "auto", "auto")
