"""Cards as the tokenised rows that TRL trains on."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd
from datasets import Dataset
from transformers import PreTrainedTokenizerBase

from medcards import InputError
from medcards.llm.citations import cite
from medcards.llm.prompts import answer_ids, prompt_ids

log = logging.getLogger(__name__)

_LOSSES = ("context_cards_left_out", "citations_left_out", "answers_cut", "left_out")
"""The counts of what ``max_length`` takes away."""


def training_rows(
    tokenizer: PreTrainedTokenizerBase,
    cards: pd.DataFrame,
    system_prompt: str,
    max_length: int,
    context: Sequence[Sequence[str]] | None = None,
    cited: Sequence[int] | None = None,
) -> tuple[Dataset, dict[str, int]]:
    """Cards as TRL's tokenised prompt and completion. The loss counts the completion only.

    A row that is longer than ``max_length`` first loses its context, from the last card on, then the end of its
    answer. A row that loses the card that it cites loses the citation too. A row whose question leaves no room for an
    answer is left out.

    Parameters
    ----------
    cards : table with ``question`` and ``answer``.
    max_length : tokens of a row, at most.
    context : for each card, the texts that stand before its question; none by default.
    cited : for each card, the number of the text that its answer cites, from 1; 0, the default, cites none.

    Returns
    -------
    rows : ``input_ids``, ``completion_mask`` and ``citation_mask`` of each row, and the place of its ``card`` in the
        table. The citation mask is 1 for the tokens of the number before the answer.
    counts : number of ``rows``, of ``tokens``, of rows ``with_context`` and ``with_citation``, of
        ``context_cards_left_out``, of ``citations_left_out``, of ``answers_cut`` and of rows ``left_out``.

    Raises
    ------
    InputError : no row has room for an answer.
    """
    rows = []
    counts = dict.fromkeys(("with_context", "with_citation", *_LOSSES), 0)
    contexts = [()] * len(cards) if context is None else context
    numbers = [0] * len(cards) if cited is None else cited
    for place, (card, texts, number) in enumerate(zip(cards.itertuples(), contexts, numbers, strict=True)):
        row = _fitting(tokenizer, card.question, card.answer, system_prompt, list(texts), number, max_length)
        counts["context_cards_left_out"] += len(texts) - row.cards
        counts["citations_left_out"] += bool(number) and not row.number
        if len(row.prompt) >= max_length:
            counts["left_out"] += 1
            continue
        counts["with_context"] += bool(row.cards)
        counts["with_citation"] += bool(row.number)
        counts["answers_cut"] += len(row.prompt) + len(row.answer) > max_length
        rows.append({"card": place} | row.columns(tokenizer, max_length))
    if not rows:
        raise InputError(f"finetune.max_length={max_length} tokens leave no room for an answer: raise it")
    counts |= {"rows": len(rows), "tokens": sum(len(row["input_ids"]) for row in rows)}
    for what in _LOSSES:
        if counts[what]:
            log.info("%s: %d of %d rows (finetune.max_length)", what.replace("_", " "), counts[what], len(cards))
    return Dataset.from_list(rows), counts


@dataclass
class _Row:
    """The token ids of a row before it is cut, the number of its cards, and the number that it cites or 0."""

    prompt: list[int]
    answer: list[int]
    cards: int
    number: int

    def columns(self, tokenizer: PreTrainedTokenizerBase, max_length: int) -> dict[str, list[int]]:
        """What TRL reads: ids and masks of equal length."""
        before = [0] * len(self.prompt)
        columns = {
            "input_ids": self.prompt + self.answer,
            "completion_mask": before + [1] * len(self.answer),
            "citation_mask": before + citation_mask(tokenizer, self.answer, self.number),
        }
        return {name: values[:max_length] for name, values in columns.items()}


def _fitting(
    tokenizer: PreTrainedTokenizerBase,
    question: str,
    answer: str,
    system_prompt: str,
    texts: list[str],
    number: int,
    max_length: int,
) -> _Row:
    """The row with as many of its texts as fit. None of them stays where the one with the number does not fit."""
    while True:
        if number > len(texts):
            texts, number = [], 0
        head = prompt_ids(tokenizer, question, system_prompt, texts)
        tail = answer_ids(tokenizer, question, cite(number, answer), system_prompt)
        if not texts or len(head) + len(tail) <= max_length:
            return _Row(head, tail, len(texts), number)
        texts = texts[:-1]


def citation_mask(tokenizer: PreTrainedTokenizerBase, answer: list[int], number: int) -> list[int]:
    """1 for each token of an answer that makes its citation, else 0.

    Parameters
    ----------
    answer : token ids of the assistant's turn. A chat template may write tokens before the citation.
    number : the number that the answer begins with; 0 for none.
    """
    mask, citation = [0] * len(answer), cite(number, "").strip()
    if not number:
        return mask
    ends = (end for end in range(1, len(answer) + 1) if citation in tokenizer.decode(answer[:end]))
    if end := next(ends, 0):
        start = max(start for start in range(end) if citation in tokenizer.decode(answer[start:end]))
        mask[start:end] = [1] * (end - start)
    return mask
