"""Decoding in which an answer has to begin with the number of a card."""

import torch
from transformers import LogitsProcessor, LogitsProcessorList, PreTrainedTokenizerBase

from medcards.llm.citations import cite
from medcards.llm.prompts import answer_ids


def citing_tokens(tokenizer: PreTrainedTokenizerBase, cards: int) -> list[int]:
    """The ids of the first tokens of answers that cite one of the cards in a prompt.

    Parameters
    ----------
    cards : number of cards in the prompt, at most.
    """
    return sorted({answer_ids(tokenizer, "Why?", cite(number, "So."), "")[0] for number in range(1, cards + 1)})


class FirstToken(LogitsProcessor):
    """Allows some tokens alone as the first one after prompts that are padded on the left.

    Parameters
    ----------
    allowed : ids of the tokens.
    start : length of the prompts in tokens, padding included.
    """

    def __init__(self, allowed: list[int], start: int):
        self._allowed, self._start = allowed, start

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """The scores of the next tokens, minus infinity for those that are not allowed."""
        if input_ids.shape[1] > self._start:
            return scores
        kept = torch.full_like(scores, -torch.inf)
        kept[:, self._allowed] = scores[:, self._allowed]
        return kept


def beginning_with(allowed: list[int], start: int) -> LogitsProcessorList:
    """The processors of ``generate`` for :class:`FirstToken`; none without ``allowed``."""
    return LogitsProcessorList([FirstToken(allowed, start)] if allowed else [])
