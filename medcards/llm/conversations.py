"""Training and validation rows as conversations, which other trainers read."""

import json
from collections.abc import Callable
from pathlib import Path

import pandas as pd

from medcards import InputError
from medcards.base.exports import check_target
from medcards.base.files import atomic, read_json, write_json
from medcards.llm.citations import cite
from medcards.llm.prompts import prompt

ROW_SPLITS = ("train", "validation")
"""The splits that have rows."""


def export_rows(data: Path, to: Path, card: Callable[[dict], str], overwrite: bool = False) -> dict[str, int]:
    """Write the rows that the stage finetune reads as train.jsonl and validation.jsonl.

    They are not cut to a length. Control tokens in a card stand as they are, because they depend on the tokenizer.

    Parameters
    ----------
    data : the folder that the pipeline wrote; read are ``rows`` and ``models/llm.json``, which has the system prompt.
    card : makes the dataset card, which becomes README.md, of the description of the deck.
    overwrite : whether an earlier export is replaced.

    Returns
    -------
    counts : number of rows by split.

    Raises
    ------
    InputError : the rows or the system prompt are missing, or the target exists.
    """
    check_target(to, overwrite)
    for name in ("manifest.json", *(f"{split}.parquet" for split in ROW_SPLITS)):
        if not (data / "rows" / name).exists():
            raise InputError(f"{data / 'rows' / name} is missing: run `dvc repro rows`")
    material = read_json(data / "rows" / "manifest.json")["material"]
    system_prompt, counts = read_json(data / "models" / "llm.json")["llm"]["system_prompt"], {}
    with atomic(to) as folder:
        folder.mkdir()
        for split in ROW_SPLITS:
            rows = pd.read_parquet(data / "rows" / f"{split}.parquet")
            answers = map(cite, rows.cited, rows.answer)
            lines = [
                json.dumps({"messages": conversation(*row, system_prompt)}, ensure_ascii=False) + "\n"
                for row in zip(rows.question, answers, map(list, rows.context), strict=True)
            ]
            (folder / f"{split}.jsonl").write_text("".join(lines), encoding="utf-8")
            counts[split] = len(lines)
        write_json(folder / "manifest.json", {"material": material})
        (folder / "README.md").write_text(card(material), encoding="utf-8")
    return counts


def conversation(question: str, answer: str, context: list[str], system_prompt: str) -> list[dict[str, str]]:
    """The messages of a row: those of the prompt, and the answer with its citation as the assistant's.

    >>> conversation("What is gout?", "An arthritis.", [], "")
    [{'role': 'user', 'content': 'What is gout?'}, {'role': 'assistant', 'content': 'An arthritis.'}]
    """
    return [*prompt(question, system_prompt, context), {"role": "assistant", "content": answer}]
