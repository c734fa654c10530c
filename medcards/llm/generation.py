"""What a language model says: its answers, and how likely it takes a reference answer to be."""

import hashlib
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch.nn.functional import cross_entropy
from tqdm import tqdm
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from medcards import InputError
from medcards.base.files import read_json, write_json
from medcards.llm.prompts import answer_ids, prompt_ids


@dataclass(frozen=True)
class Generated:
    """An answer as a model gave it.

    ``tokens`` counts what was generated, the end token included; ``truncated`` says that the limit came before the end.
    """

    text: str
    tokens: int
    truncated: bool


def generate(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    questions: list[str],
    system_prompt: str,
    max_new_tokens: int,
    batch_size: int,
    label: str = "generate",
    context: list[list[str]] | None = None,
    partial: Path | None = None,
) -> list[Generated]:
    """Answer questions greedily.

    Parameters
    ----------
    context : for each question, the texts that the model reads before it; none by default.
    partial : a folder that keeps the answers of every batch as it ends. What it holds is not generated again; it is to
        be used with one model only.

    Returns
    -------
    answers, in the order of the questions, special tokens and outer white space removed.
    """
    context = context or [[]] * len(questions)
    prompts = [
        prompt_ids(tokenizer, question, system_prompt, texts)
        for question, texts in zip(questions, context, strict=True)
    ]
    made: dict[int, Generated] = {}
    model.eval()
    for rows in tqdm(list(_batches(prompts, batch_size)), desc=label):
        asked = [prompts[row] for row in rows]
        kept = partial and partial / f"{hashlib.sha256(repr((asked, max_new_tokens)).encode()).hexdigest()}.json"
        if kept and kept.exists():
            answers = [Generated(**answer) for answer in read_json(kept)]
        else:
            answers = _generate_batch(model, tokenizer, asked, max_new_tokens)
            if kept:
                write_json(kept, [asdict(answer) for answer in answers])
        made |= zip(rows, answers, strict=True)
    return [made[row] for row in range(len(prompts))]


def answer_nll(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    questions: list[str],
    answers: list[str],
    system_prompt: str,
    batch_size: int,
    label: str = "likelihood",
    context: list[list[str]] | None = None,
) -> list[float]:
    """Mean negative log-likelihood of each reference answer, in nats per token, given its question.

    The tokens are those that training's completion-only loss counts: the assistant's turn with its end.

    Raises
    ------
    InputError : a likelihood is not finite.
    """
    context = context or [[]] * len(questions)
    rows = []
    for question, answer, texts in zip(questions, answers, context, strict=True):
        head = prompt_ids(tokenizer, question, system_prompt, texts)
        rows.append((head, answer_ids(tokenizer, question, answer, system_prompt)))
    losses = [math.nan] * len(rows)
    model.eval()
    for places in tqdm(list(_batches([head + tail for head, tail in rows], batch_size)), desc=label):
        whole = [sum(rows[place], []) for place in places]
        batch = tokenizer.pad({"input_ids": whole}, padding_side="right", return_tensors="pt").to(model.device)
        longest = batch["input_ids"].shape[1]
        keep = longest + 1 - min(len(rows[place][0]) for place in places)  # a prompt's logits would fill the memory
        with torch.inference_mode():
            logits = model(**batch, logits_to_keep=keep).logits
        for line, place in enumerate(places):
            head, tail = rows[place]
            first = len(head) - 1 - (longest - logits.shape[1])
            said = logits[line, first : first + len(tail)].float()
            losses[place] = float(cross_entropy(said, torch.tensor(tail, device=said.device)))
            if not math.isfinite(losses[place]):
                raise InputError(f"the model gives no finite likelihood to the answer of '{questions[place][:80]}'")
    return losses


def _batches(prompts: list[list[int]], batch_size: int) -> Iterator[list[int]]:
    """Row numbers of prompts of like lengths, which need little padding."""
    order = sorted(range(len(prompts)), key=lambda row: (len(prompts[row]), row))
    for start in range(0, len(order), batch_size):
        yield order[start : start + batch_size]


def _generate_batch(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, prompts: list[list[int]], max_new_tokens: int
) -> list[Generated]:
    batch = tokenizer.pad({"input_ids": prompts}, padding_side="left", return_tensors="pt").to(model.device)
    with torch.inference_mode():
        whole = model.generate(
            input_ids=batch["input_ids"],
            attention_mask=batch["attention_mask"],
            max_new_tokens=max_new_tokens,
            do_sample=False,
        )
    made = whole[:, batch["input_ids"].shape[1] :].tolist()
    ends = model.generation_config.eos_token_id
    ends = set(ends) if isinstance(ends, list) else {ends}
    answers = []
    for ids in made:
        end = next((place for place, token in enumerate(ids, start=1) if token in ends), None)
        text = tokenizer.decode(ids[:end], skip_special_tokens=True).strip()
        answers.append(Generated(text, end or len(ids), end is None))
    return answers
