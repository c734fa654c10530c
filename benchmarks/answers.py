"""Answers and likelihoods: model.generate with one question at a time, and in batches of 8, against the stage answer.

    python -m benchmarks.run answers

The model is the tuned one; every second question has training cards as context. The plain way generates each answer,
and then reads prompt and reference once more for the likelihood. The way of the examples of TRL and transformers does
the same in padded batches of 8. Quality is the share of equal texts, and the largest difference of a likelihood.
"""

from collections.abc import Iterator

import numpy as np
import torch
from peft import PeftModel

from benchmarks.flops import forward_flops, output_flops
from benchmarks.material import DATA, Deck, blocks, plain_llm
from benchmarks.measure import Benchmark, Way
from medcards.answers.records import AnswerParams
from medcards.llm.generation import generate
from medcards.llm.loading import load_tuned, merge_if_exact
from medcards.llm.params import LlmParams
from medcards.llm.prompts import answer_ids, prompt_ids
from medcards.search.context import nearest_training_cards

CARDS = 48


def benchmarks(cards: int) -> Iterator[Benchmark]:
    seed, llm, params = blocks(llm=LlmParams, answer=AnswerParams)
    deck = Deck(seed)
    asked, train = deck.questions(cards), deck.cards[deck.cards.split == "train"]
    context = nearest_training_cards(asked, train, deck.unadapted, params.context_cards)
    context = [texts if place % 2 else [] for place, texts in enumerate(context)]
    base, tokenizer = plain_llm(llm)
    plain, ours = (
        PeftModel.from_pretrained(base, DATA / "adapter").eval(),
        merge_if_exact(load_tuned(llm, DATA / "adapter")[0]),
    )
    prompts, references = [], []
    for question, answer, texts in zip(asked.question, asked.answer, context, strict=True):
        prompts.append(prompt_ids(tokenizer, question, llm.system_prompt, texts))
        references.append(answer_ids(tokenizer, question, answer, llm.system_prompt))

    def answered(_: object) -> tuple[list[str], list[float]]:
        made = generate(
            ours,
            tokenizer,
            asked.question.tolist(),
            llm.system_prompt,
            params.max_new_tokens,
            params.batch_tokens,
            context=context,
            references=asked.answer.tolist(),
        )
        return [one.text for one in made], [one.nll for one in made]

    def quality(one: tuple, other: tuple) -> dict[str, str]:
        equal = np.mean([text == same for text, same in zip(one[0], other[0], strict=True)])
        return {
            "equal texts": f"{equal:.0%}",
            "largest nats per token": f"{np.abs(np.subtract(one[1], other[1])).max():.1e}",
        }

    def flops(result: tuple) -> float:
        tokens = [len(tokenizer(text)["input_ids"]) + 1 for text in result[0]]
        heads, tails = [len(ids) for ids in prompts], [len(ids) for ids in references]
        read = sum(forward_flops(base, np.add(heads, more), causal=True) for more in (tokens, tails))
        return read - forward_flops(base, heads, causal=True) + output_flops(base, sum(tokens) + sum(tails))

    ways = {
        "one question at a time": Way(
            lambda _: in_batches(plain, tokenizer, prompts, references, 1, params.max_new_tokens)
        ),
        "padded batches of 8": Way(
            lambda _: in_batches(plain, tokenizer, prompts, references, 8, params.max_new_tokens)
        ),
        "ours": Way(answered, ours=True),
    }
    yield Benchmark("answers and likelihoods", f"{len(asked)} questions", ways, quality, len(asked), "questions", flops)


@torch.inference_mode()
def in_batches(
    model, tokenizer, prompts: list, references: list, size: int, limit: int
) -> tuple[list[str], list[float]]:
    """The answers, and the mean negative log-likelihood of the references, in batches in the given order."""
    texts, likelihoods = [], []
    for start in range(0, len(prompts), size):
        heads, tails = prompts[start : start + size], references[start : start + size]
        batch = tokenizer.pad({"input_ids": heads}, padding_side="left", return_tensors="pt")
        made = model.generate(**batch, max_new_tokens=limit, do_sample=False)[:, batch["input_ids"].shape[1] :]
        texts += [text.strip() for text in tokenizer.batch_decode(made, skip_special_tokens=True)]
        whole = [head + tail for head, tail in zip(heads, tails, strict=True)]
        batch = tokenizer.pad({"input_ids": whole}, padding_side="right", return_tensors="pt")
        predicted = model(**batch).logits.log_softmax(dim=-1)
        for line, head, tail in zip(predicted, heads, tails, strict=True):
            of_tail = line[len(head) - 1 : len(head) - 1 + len(tail)]
            likelihoods.append(-float(of_tail.gather(1, torch.tensor(tail)[:, None]).mean()))
    return texts, likelihoods
