"""Loading a language model and its adapter; answers and likelihoods that are kept."""

import json

import pytest
import tiny
from test_finetuning import VALIDATION, WEIGHTS, tune

from medcards import InputError


@pytest.fixture(scope="module")
def llama(tmp_path_factory):
    return tiny.make_llm(tmp_path_factory.mktemp("llama"))


@pytest.fixture
def adapter(llama, tmp_path):
    """The folder of an adapter on the tiny model."""
    from medcards.llm.loading import load_tokenizer
    from medcards.llm.lora import save_adapter

    llm = tiny.llm_params(llama)
    done, _ = tune(llama, tmp_path / "scratch", epochs=0.25)
    save_adapter(done.best, tmp_path / "adapter", llm.model, load_tokenizer(llm))
    return tmp_path / "adapter"


def test_an_adapter_of_another_base_is_an_error(adapter, llama, tmp_path):
    from medcards.llm.loading import load_tuned

    other = tiny.llm_params(tiny.make_llm(tmp_path / "other", width=128))
    with pytest.raises(InputError, match="belongs to path:.*, not to path:.*other: run `dvc repro -f finetune`"):
        load_tuned(other, adapter)
    config = json.loads((adapter / "adapter_config.json").read_text())
    (adapter / "adapter_config.json").write_text(json.dumps(config | {"base_model_name_or_path": other.model}))
    with pytest.raises(InputError, match="does not fit its base"):
        load_tuned(other, adapter)


def test_a_damaged_or_missing_adapter_is_an_error(adapter, llama, tmp_path):
    from medcards.llm.loading import load_tuned

    llm = tiny.llm_params(llama)
    (adapter / WEIGHTS).write_bytes(b"cut off")
    with pytest.raises(InputError, match="is damaged .*: run `dvc repro -f finetune`"):
        load_tuned(llm, adapter)
    with pytest.raises(InputError, match="adapter_config.json is missing"):
        load_tuned(llm, tmp_path / "none")


def test_base_bytes_do_not_count_the_adapter(adapter, llama):
    from medcards.answers.quantisation import base_bytes
    from medcards.llm.loading import load_llm, load_tuned

    llm = tiny.llm_params(llama)
    assert base_bytes(load_tuned(llm, adapter)[0]) == load_llm(llm)[0].get_memory_footprint()


def test_kept_answers_and_likelihoods_are_not_computed_again(llama, tmp_path, monkeypatch):
    """A kept likelihood has every digit. A damaged file is computed again. Another limit gives other answers."""
    from medcards.llm.generation import answer_nll, generate
    from medcards.llm.loading import load_llm

    model, tokenizer = load_llm(tiny.llm_params(llama))
    questions, answers = VALIDATION.question.tolist(), VALIDATION.answer.tolist()
    answered = generate(model, tokenizer, questions, "", 6, 4, partial=tmp_path)
    likelihoods = answer_nll(model, tokenizer, questions, answers, "", 4, partial=tmp_path)
    assert likelihoods == answer_nll(model, tokenizer, questions, answers, "", 4)
    assert len(list(tmp_path.iterdir())) == 4
    calls, usual = [], model.forward
    monkeypatch.setattr(model, "forward", lambda *arguments, **inputs: calls.append(1) or usual(*arguments, **inputs))
    assert generate(model, tokenizer, questions, "", 6, 4, partial=tmp_path) == answered
    assert answer_nll(model, tokenizer, questions, answers, "", 4, partial=tmp_path) == likelihoods
    assert not calls
    for file in tmp_path.iterdir():
        file.write_text(file.read_text()[:-1])
    assert answer_nll(model, tokenizer, questions, answers, "", 4, partial=tmp_path) == likelihoods
    assert len(calls) == 2
    shorter = generate(model, tokenizer, questions, "", 3, 4, partial=tmp_path)
    assert max(answer.tokens for answer in shorter) <= 3


def test_dtype_attention_and_device_are_checked(llama, tmp_path):
    import torch

    from medcards.llm.loading import compute_dtype, load_llm

    assert compute_dtype(tiny.llm_params(llama, dtype="bfloat16")) == torch.bfloat16
    assert load_llm(tiny.llm_params(llama, attention="eager"))[0].config._attn_implementation == "eager"
    assert load_llm(tiny.llm_params(llama, dtype="bfloat16", device="cpu"))[0].dtype == torch.bfloat16
    with pytest.raises(InputError, match="llm.attention=flash_attention_2"):
        load_llm(tiny.llm_params(llama, attention="flash_attention_2", device="cpu"))
    if not torch.cuda.is_available():
        with pytest.raises(InputError, match="llm.device=cuda: PyTorch finds no GPU"):
            load_llm(tiny.llm_params(llama, device="cuda"))


def test_a_tokenizer_of_another_model_is_an_error(tmp_path):
    from transformers import AutoTokenizer

    from medcards.llm.loading import load_llm

    folder = tiny.make_llm(tmp_path / "llm")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_tokens([f"new{number}" for number in range(100)])
    tokenizer.save_pretrained(folder)
    with pytest.raises(InputError, match="its tokenizer has 5.. tokens, but the model knows 416"):
        load_llm(tiny.llm_params(folder))
