"""Loading a language model and its adapter; answers and likelihoods that are kept."""

import pytest
import tiny
from test_finetuning import VALIDATION, WEIGHTS, lora_params, tune

from medcards import InputError


@pytest.fixture(scope="module")
def llama(tmp_path_factory):
    return tiny.make_llm(tmp_path_factory.mktemp("llama"))


@pytest.fixture
def adapter(llama, tmp_path):
    """The folder of an adapter on the tiny model."""
    from medcards.llm.loading import load_tokenizer
    from medcards.llm.lora import describe_adapter, save_adapter

    llm = tiny.llm_params(llama)
    done, _ = tune(llama, tmp_path / "scratch", epochs=0.25)
    save_adapter(done.best, tmp_path / "adapter", llm.model, load_tokenizer(llm), done.generation)
    describe_adapter(tmp_path / "adapter", {"llm": llm.model_dump()})
    return tmp_path / "adapter"


def test_an_adapter_of_another_base_is_an_error(adapter, llama, tmp_path):
    from medcards.llm.loading import load_tuned
    from medcards.llm.lora import describe_adapter

    other = tiny.llm_params(tiny.make_llm(tmp_path / "other", width=128))
    with pytest.raises(InputError, match="belongs to path:.*, not to path:.*other: run `dvc repro -f finetune`"):
        load_tuned(other, adapter)
    describe_adapter(adapter, {"llm": other.model_dump()})
    with pytest.raises(InputError, match="does not fit its base"):
        load_tuned(other, adapter)


@pytest.mark.parametrize(
    ("reference", "name", "revision"),
    [
        (f"hub:OWNER/NAME@{'a' * 40}", "OWNER/NAME", "a" * 40),
        ("path:models/llm/mine", "models/llm/mine", None),
        (f"pypi:name@1.0/a.gguf@sha256:{'0' * 64}", f"pypi:name@1.0/a.gguf@sha256:{'0' * 64}", None),
    ],
)
def test_an_adapter_names_its_base_in_the_fields_of_peft(llama, tmp_path, reference, name, revision):
    from peft import LoraConfig
    from transformers import GenerationConfig

    from medcards.llm.loading import load_tokenizer
    from medcards.llm.lora import lora_config, save_adapter

    lora_config(lora_params()).save_pretrained(tmp_path / "checkpoint")
    (tmp_path / "checkpoint" / WEIGHTS).touch()
    tokenizer = load_tokenizer(tiny.llm_params(llama))
    save_adapter(tmp_path / "checkpoint", tmp_path / "adapter", reference, tokenizer, GenerationConfig())
    config = LoraConfig.from_pretrained(tmp_path / "adapter")
    assert (config.base_model_name_or_path, config.revision) == (name, revision)


def test_peft_alone_loads_an_adapter_on_a_base_of_the_users_own(adapter):
    from peft import AutoPeftModelForCausalLM

    assert AutoPeftModelForCausalLM.from_pretrained(adapter).peft_config["default"].r == 4


def test_a_damaged_or_missing_adapter_is_an_error(adapter, llama, tmp_path):
    from medcards.llm.loading import load_tuned

    llm = tiny.llm_params(llama)
    (adapter / WEIGHTS).write_bytes(b"cut off")
    with pytest.raises(InputError, match=f"{WEIGHTS} is missing or damaged: run `dvc repro -f finetune`"):
        load_tuned(llm, adapter)
    with pytest.raises(InputError, match="manifest.json is missing"):
        load_tuned(llm, tmp_path / "none")


def test_an_adapter_with_a_changed_weight_is_an_error(adapter, llama):
    from medcards.llm.loading import load_tuned

    llm = tiny.llm_params(llama)
    content = (adapter / WEIGHTS).read_bytes()
    (adapter / WEIGHTS).write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(InputError, match=f"{WEIGHTS} is missing or damaged: run `dvc repro -f finetune`"):
        load_tuned(llm, adapter)


def test_refused_memory_is_no_damage(adapter, llama, monkeypatch):
    from medcards.llm import loading

    def refuse(*given):
        raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB")

    monkeypatch.setattr(loading.PeftModel, "from_pretrained", refuse)
    with pytest.raises(RuntimeError, match="CUDA out of memory"):
        loading.load_tuned(tiny.llm_params(llama), adapter)


@pytest.mark.parametrize("changes", [{}, {"use_dora": True}, {"use_rslora": True}])
def test_merging_changes_no_answer(llama, tmp_path, changes):
    from peft import PeftModel

    from medcards.llm.generation import generate
    from medcards.llm.loading import load_llm, merge_if_exact

    done, _ = tune(llama, tmp_path, lora_params(**changes), epochs=0.25)
    base, tokenizer = load_llm(tiny.llm_params(llama))
    tuned = PeftModel.from_pretrained(base, done.best)
    asked, references = (tokenizer, VALIDATION.question.tolist(), "", 6, 1000), VALIDATION.answer.tolist()
    apart = generate(tuned, *asked, references=references)
    whole = merge_if_exact(tuned)
    assert not isinstance(whole, PeftModel) and not any("lora" in name for name, _ in whole.named_modules())
    made = generate(whole, *asked, references=references)
    assert [one.text for one in made] == [one.text for one in apart]
    assert [one.nll for one in made] == pytest.approx([one.nll for one in apart], abs=1e-5)


@pytest.mark.parametrize("changes", [{"quantize": "nf4"}, {"quantize": "int8"}, {"dtype": "bfloat16"}])
def test_an_adapter_stays_apart_where_merging_rounds(adapter, llama, changes):
    from medcards.llm.loading import load_tuned, merge_if_exact

    tuned, _ = load_tuned(tiny.llm_params(llama, **changes), adapter)
    assert merge_if_exact(tuned) is tuned


def test_an_adapter_of_the_head_stays_apart(llama):
    """The head may share its weights with the embeddings."""
    from peft import get_peft_model

    from medcards.llm.loading import load_llm, merge_if_exact
    from medcards.llm.lora import lora_config

    tuned = get_peft_model(load_llm(tiny.llm_params(llama))[0], lora_config(lora_params(target_modules=["lm_head"])))
    assert merge_if_exact(tuned) is tuned


def test_dtype_attention_and_device_are_checked(llama, tmp_path):
    import torch

    from medcards.llm.loading import compute_dtype, load_llm

    assert compute_dtype(tiny.llm_params(llama, dtype="bfloat16")) == torch.bfloat16
    assert load_llm(tiny.llm_params(llama, attention="eager"))[0].config._attn_implementation == "eager"
    automatic = load_llm(tiny.llm_params(llama, device="cpu"))[0]
    assert automatic.config._attn_implementation == "grouped"
    automatic.save_pretrained(tmp_path / "saved")  # other programs do not know the name
    assert "grouped" not in (tmp_path / "saved/config.json").read_text(encoding="utf-8")
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
