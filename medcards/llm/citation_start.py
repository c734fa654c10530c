"""Decoding in which an answer has to begin with the number of a card."""

from os.path import commonprefix

import torch
from transformers import LogitsProcessor, LogitsProcessorList, PreTrainedTokenizerBase

from medcards.llm.citations import cite
from medcards.llm.prompts import answer_ids


def citation_steps(tokenizer: PreTrainedTokenizerBase, cards: int) -> list[list[int]]:
    """The ids of the tokens that may come first, second and so on in an answer that cites a card.

    They end with the first token that differs from number to number.

    Parameters
    ----------
    cards : number of cards in the prompt, at most. Without any, there are no steps.
    """
    cited = [answer_ids(tokenizer, "Why?", cite(number, "So."), "") for number in range(1, max(cards, 2) + 1)]
    shared = commonprefix(cited)
    return [*([token] for token in shared), sorted({ids[len(shared)] for ids in cited[:cards]})] if cards else []


class CitationStart(LogitsProcessor):
    """Allows the tokens of a citation alone at the start of the answers to prompts that are padded on the left.

    Parameters
    ----------
    steps : of each prompt, see :func:`citation_steps`.
    start : length of the prompts in tokens, padding included.
    """

    def __init__(self, steps: list[list[list[int]]], start: int):
        self._steps, self._start = steps, start

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """The scores of the next tokens, minus infinity for those that are not allowed."""
        step = input_ids.shape[1] - self._start
        if step >= len(self._steps[0]):
            return scores
        kept = torch.full_like(scores, -torch.inf)
        for row, steps in enumerate(self._steps):
            kept[row, steps[step]] = scores[row, steps[step]]
        return kept


def beginning_with(steps: list[list[list[int]]], start: int) -> LogitsProcessorList:
    """The processors of ``generate`` for :class:`CitationStart`; none without ``steps``."""
    return LogitsProcessorList([CitationStart(steps, start)] if steps else [])
