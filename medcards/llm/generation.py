"""A language model's answers, and its likelihood of the reference answers."""

import copy
import inspect
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import torch
from peft import PeftModel
from torch.nn.functional import cross_entropy, pad
from transformers import (
    DynamicCache,
    LogitsProcessorList,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    StoppingCriteriaList,
)
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

from medcards import InputError
from medcards.base.batches import token_batches
from medcards.base.kept import KeptResults
from medcards.base.workers import Workers, map_batches
from medcards.llm.citation_start import beginning_with, citation_steps
from medcards.llm.prompts import Example, answer_ids, prompt_ids

Model = PreTrainedModel | PeftModel
READ_SHARE = 16
"""On a CPU, prompts and references are read in parts of a batch. A batch has this many times the tokens of a part.

A CPU generates fastest in large batches, and reads fastest in small ones that fit its cache.
"""


@dataclass(frozen=True)
class Generated:
    """An answer of a model.

    ``tokens`` counts the generated tokens, the end token included. ``truncated`` tells whether the answer reached the
    limit before its end. ``nll`` is the mean negative log-likelihood of the reference answer, in nats per token, over
    the tokens that the training loss counts: the assistant's turn with its end. It is None without a reference.
    """

    text: str
    tokens: int
    truncated: bool
    nll: float | None = None


def generate(
    model: Model | Callable[[], Model],
    tokenizer: PreTrainedTokenizerBase,
    questions: list[str],
    system_prompt: str,
    max_new_tokens: int,
    batch_tokens: int,
    label: str = "generate",
    context: list[list[str]] | None = None,
    examples: list[list[Example]] | None = None,
    references: list[str] | None = None,
    kept: Path | None = None,
    citing: bool = False,
    workers: Workers | None = None,
) -> list[Generated]:
    """Answer questions greedily, and score the reference answers.

    The model reads each prompt once: its cache of the prompt serves the answer and the reference.

    Parameters
    ----------
    model : the model, or a function that loads it when there is something to compute.
    max_new_tokens : tokens of an answer, at most.
    batch_tokens : tokens of a batch, at most: prompts, the longer of answer and reference, and padding.
    label : name of the progress bar.
    context : for each question, the texts that the model reads before it; none by default.
    examples : for each question, the questions and answers that stand before it as earlier turns; none by default.
    references : for each question, the answer whose likelihood is asked; none by default.
    kept : folder that keeps the results by batch, so that a later call with the same inputs computes nothing. A folder
        belongs to one model: its weights, its dtype and its device.
    citing : whether every answer has to begin with the number of a text in ``context``, of which each question then
        has one or more. The model chooses the number.
    workers : who answers, see :func:`medcards.base.workers.map_batches`. Each batch is kept once it is answered.

    Returns
    -------
    answers in the order of the questions, without special tokens and without white space at their ends.

    Raises
    ------
    InputError : a likelihood is not finite.
    """
    prompts, tails = [], []
    counts = list(map(len, context)) if citing else []
    first = {cards: citation_steps(tokenizer, cards) for cards in set(counts)}
    for row, question in enumerate(questions):
        before = context[row] if context else (), examples[row] if examples else ()
        prompts.append(prompt_ids(tokenizer, question, system_prompt, *before))
        tails.append(answer_ids(tokenizer, question, references[row], system_prompt) if references else [])
    lengths = [len(prompt) + max(max_new_tokens, len(tail)) for prompt, tail in zip(prompts, tails, strict=True)]
    batches = token_batches(lengths, batch_tokens)
    asked = []
    for rows in batches:
        steps = [first[counts[row]] for row in rows] if citing else []
        asked.append(
            ([prompts[row] for row in rows], [tails[row] for row in rows], max_new_tokens, batch_tokens, steps)
        )
    keeper = KeptResults(kept)
    results = {place: found for place, inputs in enumerate(asked) if (found := keeper.get(inputs)) is not None}
    missing = [place for place in range(len(asked)) if place not in results]
    todo, answer = [asked[place] for place in missing], partial(_answer_batch, tokenizer)
    for number, result in map_batches(answer, model, todo, workers, label, bar_from=1):
        results[missing[number]] = result
        keeper.put(todo[number], result)
    made = {
        row: Generated(**one)
        for place, rows in enumerate(batches)
        for row, one in zip(rows, results[place], strict=True)
    }
    for row, question in enumerate(questions):
        if references and not math.isfinite(made[row].nll):
            raise InputError(f"the model gives no finite likelihood to the answer of '{question[:80]}'")
    return [made[row] for row in range(len(questions))]


def _loaded(model: Model | Callable[[], Model]) -> PreTrainedModel:
    """The model that computes. An adapter lies within it, so PEFT's wrapper is taken off."""
    model = model if isinstance(model, torch.nn.Module) else model()
    return (model.get_base_model() if isinstance(model, PeftModel) else model).eval()


@torch.inference_mode()
def _answer_batch(tokenizer: PreTrainedTokenizerBase, model: Model | Callable[[], Model], inputs: tuple) -> list[dict]:
    """The fields of :class:`Generated` for each prompt.

    Parameters
    ----------
    inputs : prompts; references, of which empty ones are not scored; ``max_new_tokens``; ``batch_tokens``; and for each
        prompt the tokens that its answer begins with, see :func:`medcards.llm.citation_start.citation_steps`.
    """
    model = _loaded(model)
    prompts, references, max_new_tokens, batch_tokens, first = inputs
    part_tokens = batch_tokens // READ_SHARE if model.device.type == "cpu" else batch_tokens
    batch = _padded(model, tokenizer, prompts, "left")
    greedy, nll = {"max_new_tokens": max_new_tokens, "do_sample": False, "num_beams": 1}, [None] * len(prompts)
    if _cache_can_be_shared(model):
        mask = batch["attention_mask"]
        cache, logits = _read(model, batch["input_ids"], mask, part_tokens)
        if references[0]:
            nll = _nll_after(model, tokenizer, cache, logits, mask, references, part_tokens)
        greedy |= {"custom_generate": partial(_without_finished, cache=cache, logits=logits, mask=mask)}
    elif references[0]:
        nll = [_nll_of_whole(model, *row) for row in zip(prompts, references, strict=True)]
    start = batch["input_ids"].shape[1]
    made = model.generate(**batch, **greedy, logits_processor=beginning_with(first, start))[:, start:].tolist()
    return [asdict(_answer(model, tokenizer, *row)) for row in zip(made, nll, strict=True)]


def _cache_can_be_shared(model: PreTrainedModel) -> bool:
    """Whether several texts may follow one cached prompt.

    The cache must hold keys and values of attention alone. States of another kind (Mamba, linear attention) change in
    place, and a quantised cache rounds.
    """
    taken = inspect.signature(model.forward).parameters
    if model.generation_config.cache_implementation or not {"past_key_values", "position_ids"} <= set(taken):
        return False
    layers = DynamicCache(config=model.config).layers
    return all(type(layer) in (DynamicLayer, DynamicSlidingWindowLayer) for layer in layers)


def _padded(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, rows: list[list[int]], side: str):
    return tokenizer.pad({"input_ids": rows}, padding_side=side, return_tensors="pt").to(model.device)


def _positions(mask: torch.Tensor) -> torch.Tensor:
    return (mask.cumsum(dim=1) - 1).clamp(min=0)


def _read(
    model: PreTrainedModel, ids: torch.Tensor, mask: torch.Tensor, part_tokens: int
) -> tuple[DynamicCache, torch.Tensor]:
    """Read prompts in parts. They are padded on the left.

    Returns
    -------
    cache : of all prompts.
    logits : (prompts, 1, vocabulary) logits of the first tokens of the answers.
    """
    lengths, parts = mask.sum(dim=1).tolist(), []
    batches = token_batches(lengths, part_tokens)
    last = torch.tensor([-1], device=ids.device)  # the number 1 makes a strided slice, which a head reads row by row
    for rows in batches:
        seen = mask[rows, -lengths[rows[0]] :]
        inputs = {"input_ids": ids[rows, -lengths[rows[0]] :], "attention_mask": seen, "position_ids": _positions(seen)}
        parts.append(model(**inputs, use_cache=True, logits_to_keep=last))
    places = torch.tensor([row for rows in batches for row in rows], device=ids.device).argsort()
    for layers in zip(*(part.past_key_values.layers for part in parts), strict=True):
        longest = layers[0].keys.shape[-2]
        missing = [longest - layer.keys.shape[-2] for layer in layers]
        for name in ("keys", "values"):
            states = [pad(getattr(layer, name), (0, 0, left, 0)) for layer, left in zip(layers, missing, strict=True)]
            setattr(layers[0], name, torch.cat(states)[places])
    return parts[0].past_key_values, torch.cat([part.logits for part in parts])[places]


def _nll_after(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    cache: DynamicCache,
    logits: torch.Tensor,
    mask: torch.Tensor,
    references: list[list[int]],
    part_tokens: int,
) -> list[float]:
    """Mean negative log-likelihoods of references after prompts that the model has read, see :func:`_read`."""
    losses: dict[int, float] = {}
    for rows in token_batches([len(reference) for reference in references], part_tokens):
        tails = _padded(model, tokenizer, [references[row] for row in rows], "right")
        ids, real = tails["input_ids"], tails["attention_mask"]
        seen = torch.cat([mask[rows], real], dim=1)
        inputs = {"input_ids": ids, "attention_mask": seen, "position_ids": _positions(seen)[:, mask.shape[1] :]}
        after = model(**inputs, past_key_values=_rows_of(cache, rows)).logits
        predicted = torch.cat([logits[rows], after[:, :-1]], dim=1).flatten(0, 1).float()
        loss = cross_entropy(predicted, ids.flatten(), reduction="none").view_as(real) * real
        losses |= zip(rows, (loss.sum(dim=1) / real.sum(dim=1)).tolist(), strict=True)
    return [losses[row] for row in range(len(references))]


def _rows_of(cache: DynamicCache, rows: list[int]) -> DynamicCache:
    """A cache of some rows. What is added to it is not added to ``cache``, since layers never change in place."""
    part = copy.copy(cache)
    part.layers = [copy.copy(layer) for layer in cache.layers]
    part.batch_select_indices(torch.tensor(rows))
    return part


def _nll_of_whole(model: PreTrainedModel, prompt: list[int], reference: list[int]) -> float:
    """Mean negative log-likelihood of one reference. The model reads the prompt with it."""
    ids = torch.tensor([prompt + reference], device=model.device)
    logits = model(input_ids=ids, logits_to_keep=len(reference) + 1).logits[0, -len(reference) - 1 : -1]
    return float(cross_entropy(logits.float(), ids[0, len(prompt) :]))


def _without_finished(
    model: PreTrainedModel,
    input_ids: torch.Tensor,
    logits_processor: LogitsProcessorList,
    stopping_criteria: StoppingCriteriaList,
    cache: DynamicCache,
    logits: torch.Tensor,
    mask: torch.Tensor,
    **_: object,
) -> torch.Tensor:
    """Greedy decoding for ``model.generate`` that drops finished rows from the batch.

    Parameters
    ----------
    cache, logits : see :func:`_read`. The cache is used up.
    mask : the prompts' attention mask.

    Returns
    -------
    prompts with their answers; finished rows are filled up with padding.
    """
    ids, running = input_ids, torch.arange(len(input_ids), device=input_ids.device)
    whole = ids.new_full((len(ids), stopping_criteria.max_length), model.generation_config.pad_token_id)
    while True:
        token = logits_processor(ids, logits[:, -1].float()).argmax(dim=-1, keepdim=True)
        ids = torch.cat([ids, token], dim=1)
        whole[running, : ids.shape[1]] = ids
        unfinished = (~stopping_criteria(ids, None)).nonzero().flatten()
        if not len(unfinished):
            return whole
        if len(unfinished) < len(ids):
            cache.batch_select_indices(unfinished)
            ids, mask, running = ids[unfinished], mask[unfinished], running[unfinished]
        mask = torch.cat([mask, mask.new_ones(len(mask), 1)], dim=1)
        place = _positions(mask)[:, -1:]
        logits = model(input_ids=ids[:, -1:], attention_mask=mask, position_ids=place, past_key_values=cache).logits


def _answer(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, ids: list[int], nll: float | None) -> Generated:
    """The answer in generated tokens, which may go on after its end."""
    ends = model.generation_config.eos_token_id
    end = next((place for place, token in enumerate(ids, start=1) if token in ends), None)
    text = tokenizer.decode(ids[:end], skip_special_tokens=True).strip()
    return Generated(text, end or len(ids), end is None, nll)
