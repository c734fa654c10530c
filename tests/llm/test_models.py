"""Answers and likelihoods of a language model, on tiny models made here."""

import copy
import math
from functools import wraps

import numpy as np
import pytest
import tiny

from medcards import InputError

QUESTIONS = ["What is gout?", "What should a nurse know about asthma, case 1, and what comes next?", "Why?"]
REFERENCES = ["a fever", "rest", "a blood test tells gout from sepsis, " * 9]
"""The shortest question has the longest reference, so that prompts and rows of a batch are not in one order."""
READ = [["gout is a fever"], ["a cyst is a sac"], []]


@pytest.fixture(scope="module", params=["chat template", "plain"])
def llm(request, tmp_path_factory):
    """(model, tokenizer) of a tiny model, with and without a chat template."""
    from medcards.llm.loading import load_llm

    template = tiny.CHAT_TEMPLATE if request.param == "chat template" else None
    return load_llm(tiny.llm_params(tiny.make_llm(tmp_path_factory.mktemp("llm"), template)))


def answer(llm, batch_tokens=1000, rows=slice(None), max_new_tokens=8, **options):
    """The answers to some of the questions after what is read, with the likelihoods of the references."""
    from medcards.llm.generation import generate

    return generate(
        *llm,
        QUESTIONS[rows],
        "Be brief.",
        max_new_tokens,
        batch_tokens,
        context=READ[rows],
        references=REFERENCES[rows],
        **options,
    )


def by_hand(model, tokenizer, question: str, reference: str, read: list[str]) -> tuple[str, float]:
    """A greedy answer and a mean negative log-likelihood; the model reads the whole text for each token."""
    import torch

    from medcards.llm.prompts import answer_ids, prompt_ids

    head = prompt_ids(tokenizer, question, "Be brief.", read)
    ids, tail = list(head), answer_ids(tokenizer, question, reference, "Be brief.")
    with torch.inference_mode():
        while len(ids) < len(head) + 8 and ids[-1] != tokenizer.eos_token_id:
            ids.append(int(model(torch.tensor([ids]), use_cache=False).logits[0, -1].argmax()))
        logs = model(torch.tensor([head + tail]), use_cache=False).logits[0].log_softmax(-1)
    text = tokenizer.decode(ids[len(head) :], skip_special_tokens=True).strip()
    return text, -np.mean([float(logs[len(head) - 1 + place, token]) for place, token in enumerate(tail)])


def assert_answers_are_those_by_hand(llm):
    made = answer(llm)
    texts, likelihoods = zip(*map(lambda *row: by_hand(*llm, *row), QUESTIONS, REFERENCES, READ), strict=True)
    assert [one.text for one in made] == list(texts)
    assert [one.nll for one in made] == pytest.approx(list(likelihoods), abs=1e-5)


def test_answers_and_likelihoods_are_those_of_one_text_at_a_time(llm):
    assert_answers_are_those_by_hand(llm)


@pytest.mark.parametrize("cache", [True, False])
def test_an_answer_that_has_to_cite_begins_with_a_citation(llm, monkeypatch, cache):
    """With one cached prompt for answer and reference, and without. The likelihoods are those of a free answer."""
    from medcards.llm import generation
    from medcards.llm.citation_start import citation_steps
    from medcards.llm.streaming import stream_answer

    if not cache:
        monkeypatch.setattr(generation, "_cache_can_be_shared", lambda model: False)
    _, tokenizer = llm
    steps = citation_steps(tokenizer, cards=2)
    assert {tokenizer.decode([*(only for (only,) in steps[:-1]), last]).strip() for last in steps[-1]} == {"[1", "[2"}
    reading = slice(2)
    free, cited = answer(llm, rows=reading), answer(llm, rows=reading, citing=True)
    assert [one.text.startswith("[1") for one in (*free, *cited)] == [False] * 2 + [True] * 2  # one card is read
    assert [one.nll for one in cited] == pytest.approx([one.nll for one in free], abs=1e-5)
    *_, streamed = stream_answer(*llm, QUESTIONS[0], "Be brief.", 8, READ[0], citing=True)
    assert streamed == cited[0].text


def test_an_answer_cites_no_more_cards_than_its_own_prompt_holds(llm):
    """Prompts of one and two cards in one batch."""
    import torch

    from medcards.llm.citation_start import CitationStart, citation_steps

    _, tokenizer = llm
    steps = [citation_steps(tokenizer, cards) for cards in (1, 2)]
    last, likely = len(steps[0]) - 1, torch.arange(2.0 * len(tokenizer)).view(2, -1)
    made = CitationStart(steps, start=5)(torch.zeros(2, 5 + last, dtype=torch.long), likely)
    allowed = [row.isfinite().nonzero().flatten().tolist() for row in made]
    assert [tokenizer.decode(ids).strip() for ids in allowed] == ["1", "12"]
    after = CitationStart(steps, start=5)(torch.zeros(2, 6 + last, dtype=torch.long), likely)
    assert after.equal(likely)


def test_answers_and_likelihoods_do_not_depend_on_the_batch(llm):
    together = answer(llm)
    for alone in (answer(llm, batch_tokens=1), [answer(llm, rows=slice(row, row + 1))[0] for row in range(3)]):
        assert [one.text for one in alone] == [one.text for one in together]
        assert [one.nll for one in alone] == pytest.approx([one.nll for one in together], abs=1e-5)
    assert all(one.text and 0 < one.tokens <= 8 for one in together)


def hybrid_config():
    """A layer of linear attention and a layer of full attention."""
    import transformers

    return transformers.Qwen3NextConfig(
        hidden_size=64,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=32,
        layer_types=["linear_attention", "full_attention"],
        linear_num_key_heads=2,
        linear_num_value_heads=2,
        linear_key_head_dim=32,
        linear_value_head_dim=32,
        num_experts=0,
        mlp_only_layers=[0, 1],
        vocab_size=416,
    )


def sliding_config():
    """Layers that see the last 8 tokens, less than a prompt."""
    import transformers

    return transformers.MistralConfig(
        hidden_size=64,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        sliding_window=8,
        vocab_size=416,
    )


@pytest.mark.parametrize(("config", "reads"), [(sliding_config, 1), (hybrid_config, 2)])
def test_a_prompt_is_read_once_unless_its_cache_has_other_states_than_attention(
    llm, tmp_path, monkeypatch, config, reads
):
    """Both ways give the answers of one text at a time. ``reads`` is how often the longest prompt is read."""
    import torch
    from transformers import AutoModelForCausalLM

    from medcards.llm.loading import load_llm

    torch.manual_seed(0)
    _, tokenizer = llm
    AutoModelForCausalLM.from_config(config()).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    llm = load_llm(tiny.llm_params(tmp_path))
    assert_answers_are_those_by_hand(llm)
    read, usual = [], llm[0].forward

    @wraps(usual)
    def forward(**inputs):
        read.append(inputs["input_ids"].shape[1])
        return usual(**inputs)

    monkeypatch.setattr(llm[0], "forward", forward)
    answer(llm, rows=slice(1, 2))
    longest = max(read)
    assert sum(length >= longest - 8 for length in read) == reads


def test_finished_rows_leave_the_batch(llm, monkeypatch):
    """The ends are put into what the model gives, since an untrained one may never end."""
    from medcards.llm.generation import Generated, generate

    model, tokenizer = llm
    word, end = tokenizer("gout", add_special_tokens=False)["input_ids"][0], tokenizer.eos_token_id
    script, rows, usual = [[end, word, word], [end, word], [word]], [], model.forward

    @wraps(usual)
    def forward(**inputs):
        made = usual(**inputs)
        made.logits[:, -1] = 0
        made.logits[range(len(made.logits)), -1, script[len(rows)]] = 1
        rows.append(len(made.logits))
        return made

    monkeypatch.setattr(model, "forward", forward)
    found = generate(model, tokenizer, ["Why?"] * 3, "", 3, 1000)
    assert rows == [3, 2, 1]
    assert found[:2] == [Generated("", 1, False), Generated(tokenizer.decode([word]).strip(), 2, False)]
    assert (found[2].tokens, found[2].truncated, found[2].nll) == (3, True, None)


def test_the_settings_of_a_model_count(llm):
    """A repetition penalty changes the answer as it does in ``model.generate``."""
    import torch

    from medcards.llm.generation import generate
    from medcards.llm.prompts import prompt_ids

    model, tokenizer = copy.deepcopy(llm[0]), llm[1]
    model.generation_config.repetition_penalty = 5.0
    head = prompt_ids(tokenizer, "What is gout?", "")
    ids = torch.tensor([head])
    whole = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=12, do_sample=False)[0, len(head) :]
    (penalised,) = generate(model, tokenizer, ["What is gout?"], "", 12, 1000)
    (plain,) = generate(*llm, ["What is gout?"], "", 12, 1000)
    assert penalised.text == tokenizer.decode(whole, skip_special_tokens=True).strip() != plain.text


def test_kept_batches_are_not_computed_again(llm, tmp_path):
    """A kept likelihood has every digit. A damaged file, another limit and another reference are computed."""
    loaded = []

    def load():
        loaded.append(1)
        return llm[0]

    def again(model=load, **options):
        return answer((model, llm[1]), kept=tmp_path, **({"batch_tokens": 1} | options))

    whole = again()
    assert whole == answer(llm, batch_tokens=1) and len(list(tmp_path.iterdir())) == len(loaded) == 3
    assert again() == whole and len(loaded) == 3  # nothing to compute: the model is not loaded
    damaged = next(tmp_path.iterdir())
    damaged.write_text(damaged.read_text()[:-1])
    assert again() == whole and len(loaded) == 4
    assert max(one.tokens for one in again(max_new_tokens=3)) == 3 and len(loaded) == 7
    answer((load, llm[1]), kept=tmp_path, batch_tokens=1, rows=slice(0, 1))
    assert len(loaded) == 7


def test_a_likelihood_that_is_no_number_is_an_error(llm):
    """Of a model whose weights are not finite; a mean over it would be none either."""
    import torch

    broken = copy.deepcopy(llm[0])
    with torch.no_grad():
        broken.lm_head.weight.fill_(math.inf)
    with pytest.raises(InputError, match="no finite likelihood to the answer of 'What is gout"):
        answer((broken, llm[1]))
