"""The tuned model on bases of different precision: full, int8, NF4."""

import gc
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pandas as pd

from medcards.answers.records import AnswerParams, Answers
from medcards.base.params import Block
from medcards.llm.params import LlmParams


class QuantiseEvalParams(Block):
    """The bases that are compared, see params.yaml."""

    bases: list[Literal["none", "int8", "nf4"]]


@dataclass
class BaseResult:
    """The tuned model's answers on one base.

    Attributes
    ----------
    answers : its answers, closed book, and the likelihoods of the references.
    base_bytes : size of the base's weights.
    tokens_per_second : generated tokens per second. The seconds are those of the whole work without loading: reading
        the prompts, generating, and scoring the references.
    """

    answers: Answers
    base_bytes: int
    tokens_per_second: float


def answer_on_base(questions: pd.DataFrame, llm: LlmParams, adapter: Path, params: AnswerParams) -> BaseResult:
    """Let the tuned model answer the questions on one base, closed book.

    Parameters
    ----------
    questions : table with ``question`` and ``answer``.
    llm : the base; ``llm.quantize`` is its precision.

    Raises
    ------
    InputError : the adapter belongs to another base.
    """
    import torch

    from medcards.llm.generation import generate
    from medcards.llm.loading import check_base, load_llm, load_tuned

    check_base(llm, adapter)
    base, tokenizer = load_llm(llm)
    size = base.get_memory_footprint()
    model, _ = load_tuned(llm, adapter, base)  # not merged, so that the bases compute the same layers
    asked, references = questions.question.tolist(), questions.answer.tolist()
    sizes = params.max_new_tokens, params.batch_tokens
    started = time.perf_counter()
    made = generate(
        model, tokenizer, asked, llm.system_prompt, *sizes, label=f"{llm.quantize}: answers", references=references
    )
    speed = sum(answer.tokens for answer in made) / (time.perf_counter() - started)
    del base, model
    gc.collect()  # the next base needs the memory
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return BaseResult(Answers.of_model(made), size, speed)
