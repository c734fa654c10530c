"""Cards as the tokenised rows that TRL trains on."""

import logging
from collections.abc import Sequence

import pandas as pd
from datasets import Dataset
from transformers import PreTrainedTokenizerBase

from medcards import InputError
from medcards.llm.prompts import answer_ids, prompt_ids

log = logging.getLogger(__name__)


def training_rows(
    tokenizer: PreTrainedTokenizerBase,
    cards: pd.DataFrame,
    system_prompt: str,
    max_length: int,
    context: Sequence[Sequence[str]] | None = None,
) -> tuple[Dataset, dict[str, int]]:
    """Cards as TRL's tokenised prompt and completion. The loss counts the completion only.

    A row that is longer than ``max_length`` first loses its context, from the last card on, then the end of its
    answer. A row whose question leaves no room for an answer is left out.

    Parameters
    ----------
    cards : table with ``question`` and ``answer``.
    max_length : tokens of a row, at most.
    context : for each card, the texts that stand before its question; none by default.

    Returns
    -------
    rows : ``input_ids`` and ``completion_mask`` of each row, and the place of its ``card`` in the table.
    counts : number of ``rows``, of ``tokens``, of rows ``with_context``, of ``context_cards_left_out``, of
        ``answers_cut`` and of rows ``left_out``.

    Raises
    ------
    InputError : no row has room for an answer.
    """
    rows = []
    counts = dict.fromkeys(("with_context", "context_cards_left_out", "answers_cut", "left_out"), 0)
    contexts = [()] * len(cards) if context is None else context
    for place, (card, texts) in enumerate(zip(cards.itertuples(), map(list, contexts), strict=True)):
        answer = answer_ids(tokenizer, card.question, card.answer, system_prompt)
        head = prompt_ids(tokenizer, card.question, system_prompt, texts)
        while texts and len(head) + len(answer) > max_length:
            texts.pop()
            counts["context_cards_left_out"] += 1
            head = prompt_ids(tokenizer, card.question, system_prompt, texts)
        if len(head) >= max_length:
            counts["left_out"] += 1
            continue
        counts["with_context"] += bool(texts)
        counts["answers_cut"] += len(head) + len(answer) > max_length
        ids = (head + answer)[:max_length]
        mask = [0] * len(head) + [1] * (len(ids) - len(head))
        rows.append({"card": place, "input_ids": ids, "completion_mask": mask})
    if not rows:
        raise InputError(f"finetune.max_length={max_length} tokens leave no room for an answer: raise it")
    counts |= {"rows": len(rows), "tokens": sum(len(row["input_ids"]) for row in rows)}
    for what in ("context_cards_left_out", "answers_cut", "left_out"):
        if counts[what]:
            log.info("%s: %d of %d rows (finetune.max_length)", what.replace("_", " "), counts[what], len(cards))
    return Dataset.from_list(rows), counts
