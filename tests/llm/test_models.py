"""Answers and likelihoods of a language model, on tiny models made here."""

import copy
import math

import numpy as np
import pytest
import tiny

from medcards import InputError


@pytest.fixture(scope="module", params=["chat template", "plain"])
def llm(request, tmp_path_factory):
    """(model, tokenizer, parameters) of a tiny model, with and without a chat template."""
    from medcards.llm.loading import load_llm

    template = tiny.CHAT_TEMPLATE if request.param == "chat template" else None
    folder = tiny.make_llm(tmp_path_factory.mktemp("llm"), template)
    params = tiny.llm_params(folder, system_prompt="Be brief.")
    return *load_llm(params), params


def test_answers_do_not_depend_on_the_batch(llm):
    from medcards.llm.generation import generate

    model, tokenizer, _ = llm
    questions = ["What is gout?", "What should a nurse know about asthma, case 1, and what comes next?", "Why?"]
    together = generate(model, tokenizer, questions, "Be brief.", 8, 4)
    alone = [generate(model, tokenizer, [question], "Be brief.", 8, 4)[0] for question in questions]
    assert together == alone
    assert all(answer.text and 0 < answer.tokens <= 8 for answer in together)


def test_an_answer_ends_at_its_end_token_or_is_truncated(llm, monkeypatch):
    """The ends are put into what the model gives, since an untrained one may never end."""
    import torch

    from medcards.llm.generation import Generated, generate

    model, tokenizer, _ = llm
    word, end = tokenizer("gout", add_special_tokens=False)["input_ids"][0], tokenizer.eos_token_id
    made = torch.tensor([[end, end, end], [word, end, end], [word, word, word]])
    monkeypatch.setattr(model, "generate", lambda input_ids, **_: torch.cat([input_ids, made], dim=1))
    text = tokenizer.decode([word]).strip()
    found = generate(model, tokenizer, ["Why?"] * 3, "", 3, 3)
    assert found[:2] == [Generated("", 1, False), Generated(text, 2, False)]
    assert (found[2].tokens, found[2].truncated) == (3, True)


def test_answers_that_a_killed_run_left_are_not_generated_again(llm, monkeypatch, tmp_path):
    from medcards.llm.generation import generate

    model, tokenizer, _ = llm
    questions, asked, usual = ["What is gout?", "Why?", "What is a fever?"], [], model.generate
    monkeypatch.setattr(model, "generate", lambda **inputs: asked.append(len(inputs["input_ids"])) or usual(**inputs))
    whole = generate(model, tokenizer, questions, "", 4, 2, partial=tmp_path)
    min(tmp_path.iterdir(), key=lambda file: file.stat().st_size).unlink()  # that of the last batch, of one
    assert generate(model, tokenizer, questions, "", 4, 2, partial=tmp_path) == whole
    assert asked == [2, 1, 1]
    other = generate(model, tokenizer, questions[:1], "", 4, 2, partial=tmp_path)  # other questions, in the same folder
    assert other == whole[:1] and asked == [2, 1, 1, 1]


def test_likelihood_does_not_depend_on_the_batch(llm):
    from medcards.llm.generation import answer_nll

    model, tokenizer, _ = llm
    questions = ["What is gout?", "What should a nurse know about asthma, case 1, and what comes next?", "Why?"]
    answers, read = ["a fever", "rest", "a blood test tells gout from sepsis"], [["gout is a fever"], [], []]
    together = answer_nll(model, tokenizer, questions, answers, "", 3, context=read)
    alone = [
        answer_nll(model, tokenizer, [question], [answer], "", 1, context=[texts])[0]
        for question, answer, texts in zip(questions, answers, read, strict=True)
    ]
    assert together == pytest.approx(alone, rel=1e-4)
    assert together[0] != answer_nll(model, tokenizer, questions[:1], answers[:1], "", 1)[0]  # what it reads counts


def test_likelihood_is_that_of_the_answer_tokens(llm):
    import torch

    from medcards.llm.generation import answer_nll
    from medcards.llm.prompts import prompt

    model, tokenizer, _ = llm
    question, answer = "What is gout?", "gout is a fever"
    messages = [*prompt(question, "Be brief."), {"role": "assistant", "content": answer}]
    whole = tokenizer(tokenizer.apply_chat_template(messages, tokenize=False), add_special_tokens=False).input_ids
    head = tokenizer(
        tokenizer.apply_chat_template(messages[:-1], tokenize=False, add_generation_prompt=True),
        add_special_tokens=False,
    ).input_ids
    assert whole[: len(head)] == head
    with torch.inference_mode():
        logs = model(torch.tensor([whole])).logits[0].log_softmax(-1)
    by_hand = [-float(logs[place - 1, whole[place]]) for place in range(len(head), len(whole))]
    assert answer_nll(model, tokenizer, [question], [answer], "Be brief.", 1) == pytest.approx(
        [np.mean(by_hand)], rel=1e-4
    )


def test_a_likelihood_that_is_no_number_is_an_error(llm):
    """Of a model whose weights are not finite; a mean over it would be none either."""
    import torch

    from medcards.llm.generation import answer_nll

    model, tokenizer, _ = llm
    broken = copy.deepcopy(model)
    with torch.no_grad():
        next(broken.parameters()).fill_(math.nan)
    with pytest.raises(InputError, match="no finite likelihood to the answer of 'What is gout"):
        answer_nll(broken, tokenizer, ["What is gout?"], ["a fever"], "", 1)
