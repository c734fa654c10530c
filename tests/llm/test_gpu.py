"""Behaviour that needs a GPU: bfloat16, quantised bases on CUDA, speed. The tests make their own tiny models."""

import numpy as np
import pytest
import tiny
from test_finetuning import VALIDATION, lora_params, tune

pytestmark = pytest.mark.gpu


@pytest.fixture(autouse=True)
def gpu():
    """Skip the test where PyTorch finds no GPU."""
    import torch

    if not torch.cuda.is_available():
        pytest.skip("PyTorch finds no GPU")


@pytest.fixture(scope="module")
def llama(tmp_path_factory):
    return tiny.make_llm(tmp_path_factory.mktemp("llama"))


def losses(live) -> list[float]:
    return [value for _, name, value in live.points if name == "validation_loss"]


def test_bfloat16_is_chosen_and_agrees_with_float32(llama, tmp_path):
    import torch

    from medcards.llm.loading import compute_dtype, load_llm

    if not torch.cuda.is_bf16_supported(including_emulation=False):
        pytest.skip("this GPU does not compute in bfloat16")
    params = tiny.llm_params(llama)
    assert compute_dtype(params) == torch.bfloat16
    model, _ = load_llm(params)
    assert (model.device.type, model.dtype) == ("cuda", torch.bfloat16)
    rounded = losses(tune(llama, tmp_path / "bfloat16")[1])
    exact = losses(tune(llama, tmp_path / "float32", dtype="float32")[1])
    on_cpu = losses(tune(llama, tmp_path / "cpu", device="cpu")[1])
    assert rounded[-1] < rounded[0]
    assert exact == pytest.approx(on_cpu, abs=0.01)
    assert rounded == pytest.approx(exact, abs=0.05)


@pytest.mark.parametrize("quantize", ["int8", "nf4"])
def test_quantised_bases(llama, tmp_path, quantize):
    from peft import PeftModel

    from medcards.llm.generation import generate
    from medcards.llm.loading import load_llm

    done, live = tune(llama, tmp_path, quantize=quantize)
    assert losses(live)[-1] < losses(live)[0]
    params = tiny.llm_params(llama, quantize=quantize)
    model, tokenizer = load_llm(params)
    assert model.device.type == "cuda"
    tuned = PeftModel.from_pretrained(model, done.best)
    asked = VALIDATION.question.tolist(), "", 8, 512
    answers = generate(tuned, tokenizer, *asked, references=VALIDATION.answer.tolist())
    assert [answer.nll for answer in answers] == pytest.approx(done.nll["tuned"], abs=0.05)


def test_a_step_is_faster_than_on_the_cpu(tmp_path):
    """The layers are wide enough to keep a GPU busy. The tests use one core of the CPU by default.

    `OMP_NUM_THREADS=16 pytest -n0 -m gpu -s` prints the ratio to 16 cores.
    """
    folder = tiny.make_llm(tmp_path / "llm", width=1024, layers=8)
    speed = {}
    for device in ("cuda", "cpu"):
        _, live = tune(folder, tmp_path / device, lora_params(r=16), device=device)
        speed[device] = np.median([value for *_, value in live.speed[1:]])  # the first step is slower
    ratio = speed["cuda"] / speed["cpu"]
    print(f"tokens/s on the GPU {speed['cuda']:.0f}, on the CPU {speed['cpu']:.0f}: {ratio:.1f} times")
    assert ratio > 2
