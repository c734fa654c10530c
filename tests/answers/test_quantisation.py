"""The tuned model on bases of different precision: what is checked first, and what stays in memory."""

import weakref

import pandas as pd
import pytest
import tiny

from medcards import InputError
from medcards.answers.quantisation import answer_on_base
from medcards.answers.records import AnswerParams

QUESTIONS = pd.DataFrame(tiny.deck(3)).rename(columns={"input": "question", "output": "answer"})
PARAMS = AnswerParams(
    systems=["lora"],
    split="test",
    questions=1,
    test_questions=3,
    max_new_tokens=4,
    batch_tokens=1000,
    open_book_sets=[],
    context_cards=1,
)


@pytest.fixture
def tuned(tmp_path):
    """The parameters of a tiny base, and the folder of an adapter on it."""
    import peft

    from medcards.llm.loading import load_llm
    from medcards.llm.lora import describe_adapter

    llm = tiny.llm_params(tiny.make_llm(tmp_path / "llm"), device="cpu")
    config = peft.LoraConfig(r=4, init_lora_weights=False, task_type="CAUSAL_LM")
    peft.get_peft_model(load_llm(llm)[0], config).save_pretrained(tmp_path / "adapter")
    describe_adapter(tmp_path / "adapter", {"llm": llm.model_dump()})
    return llm, tmp_path / "adapter"


def test_an_adapter_of_another_base_is_refused_before_a_model_is_loaded(tuned, monkeypatch):
    from medcards.llm import loading

    llm, adapter = tuned
    monkeypatch.setattr(loading, "load_llm", lambda _: pytest.fail("a model is loaded"))
    with pytest.raises(InputError, match="the adapter belongs to path:.*, not to path:other: run `dvc repro -f"):
        answer_on_base(QUESTIONS, llm.model_copy(update={"model": "path:other"}), adapter, PARAMS)


def test_no_reference_to_a_base_is_left_when_the_next_one_is_loaded(tuned, monkeypatch):
    from medcards.llm import loading

    (llm, adapter), loaded, usual = tuned, [], loading.load_llm

    def load(params):
        assert not any(part() is not None for parts in loaded for part in parts)
        model, tokenizer = usual(params)
        loaded.append([weakref.ref(part) for part in (model, *model.modules(), *model.parameters())])
        return model, tokenizer

    monkeypatch.setattr(loading, "load_llm", load)
    for quantize in ("none", "int8", "nf4"):
        answer_on_base(QUESTIONS, llm.model_copy(update={"quantize": quantize}), adapter, PARAMS)
    assert len(loaded) == 3
