"""Fine-tuning on tiny models made here: order, LoRA on several architectures, early stopping, resuming."""

import json

import numpy as np
import pandas as pd
import pytest
import tiny

from medcards import InputError


def cards(rows: list[dict]) -> pd.DataFrame:
    return pd.DataFrame(rows).rename(columns={"input": "question", "output": "answer"})


DECK = cards(tiny.deck(40))
WEIGHTS = "adapter_model.safetensors"
TRAIN, VALIDATION = DECK[:32], DECK[32:]
CLOSE = {"none": 1e-5, "int8": 0.01, "nf4": 0.01}
"""How near likelihoods of the same model are: int8 rounds by what else is in a batch, its adapter is in bfloat16."""


def finetune_params(**changes):
    from medcards.llm.training import FinetuneParams

    values = {
        "launch": "python",
        "max_length": 128,
        "epochs": 1.0,
        "batch_size": 4,
        "gradient_accumulation": 2,
        "learning_rate": 0.01,
        "schedule": "cosine",
        "warmup_share": 0.1,
        "max_grad_norm": 1.0,
        "activation_checkpointing": False,
        "citation_weight": 1.0,
        "log_steps": 1,
        "evaluate_steps": 2,
        "patience": 0,
    }
    return FinetuneParams(**(values | changes))


def lora_params(**changes):
    from medcards.llm.lora import LoraParams

    values = {"r": 4, "alpha": 8, "dropout": 0.0, "target_modules": "all-linear", "use_rslora": False}
    return LoraParams(**(values | {"use_dora": False, "init": "default"} | changes))


class Recorder:
    """Stands in for DVCLive. ``points`` holds (step, curve, value) but for the speed, which differs between runs."""

    def __init__(self):
        self.step, self.points, self.speed = 0, [], []

    def log_metric(self, name, value):
        (self.speed if name == "tokens_per_second" else self.points).append((self.step, name, value))

    def make_summary(self):
        pass


def tune(folder, scratch, lora=None, quantize="none", device="auto", dtype="auto", **changes):
    """Tune a tiny model on tiny cards; the :class:`Training`, and the recorded curves."""
    from medcards.llm.curves import Curves
    from medcards.llm.loading import load_tokenizer
    from medcards.llm.tokenise import training_rows
    from medcards.llm.training import train_adapter

    llm = tiny.llm_params(folder, quantize=quantize, device=device, dtype=dtype)
    tokenizer = load_tokenizer(llm)
    rows = [training_rows(tokenizer, table, "", 128)[0] for table in (TRAIN, VALIDATION)]
    live = Recorder()
    params = finetune_params(**changes)
    return train_adapter(llm, tokenizer, *rows, lora or lora_params(), params, 1, scratch, [Curves(live)]), live


@pytest.fixture(scope="module")
def llama(tmp_path_factory):
    return tiny.make_llm(tmp_path_factory.mktemp("llama"))


def test_training_order():
    """An epoch has every card once. The cards of a step are a random sample, sorted by length. Every step is full."""
    from medcards.llm.training import training_order

    lengths = [(7 * row) % 56 for row in range(56)]
    order = training_order(lengths, finetune_params(epochs=2.0), seed=1)
    steps = [order[start : start + 8] for start in range(0, 112, 8)]
    assert sorted(order[:56]) == sorted(order[56:]) == list(range(56))
    for step in steps:
        assert [lengths[row] for row in step] == sorted(lengths[row] for row in step)
    assert max(lengths[row] for row in steps[0]) - min(lengths[row] for row in steps[0]) > 10  # no step of one length
    assert order == training_order(lengths, finetune_params(epochs=2.0), seed=1)
    assert order != training_order(lengths, finetune_params(epochs=2.0), seed=2)
    assert len(training_order(lengths, finetune_params(epochs=0.5), seed=1)) == 24  # three steps and a half
    assert len(training_order(lengths[:5], finetune_params(), seed=1)) == 5  # fewer rows than a step make one step


@pytest.mark.parametrize("quantize", ["none", "int8", "nf4"])
def test_training_lowers_the_loss_and_the_adapter_loads_again(llama, tmp_path, quantize):
    from medcards.llm.curves import curve_ends
    from medcards.llm.loading import load_llm, load_tuned
    from medcards.llm.lora import describe_adapter, save_adapter

    done, live = tune(llama, tmp_path / "scratch", quantize=quantize)
    curve = {step: value for step, name, value in live.points if name == "validation_loss"}
    assert list(curve) == [0, 2, 4]  # 32 cards, 8 a step; validated before the first step
    assert curve[4] < curve[2] < curve[0]
    for step, of in ((0, "base"), (4, "tuned")):  # one figure in the curve, in the choice and in the report
        assert curve[step] == np.mean(done.nll[of])
    assert curve_ends(done.log)["validation"] == {"first": curve[0], "lowest": curve[4]}
    assert {name for _, name, _ in live.points} == {"train_loss", "validation_loss", "learning_rate", "gradient_norm"}
    assert [step for step, name, _ in live.points if name == "train_loss"] == [1, 2, 3, 4]
    assert [step for step, _, _ in live.speed] == [1, 2, 3, 4] and min(speed for *_, speed in live.speed) > 0
    assert (done.facts["steps"], done.facts["best_step"], done.facts["stopped_early"]) == (4, 4, False)

    llm = tiny.llm_params(llama, quantize=quantize)
    model, tokenizer = load_llm(llm)
    save_adapter(done.best, tmp_path / "adapter", llm.model, tokenizer, done.generation)
    assert {file.name for file in (tmp_path / "adapter").iterdir()} == {
        "adapter_config.json",
        "adapter_model.safetensors",
        "chat_template.jinja",
        "generation_config.json",
        "tokenizer.json",
        "tokenizer_config.json",
    }
    config = json.loads((tmp_path / "adapter/adapter_config.json").read_text())
    assert (config["base_model_name_or_path"], config["r"]) == (str(llama), 4)
    describe_adapter(tmp_path / "adapter", {"llm": llm.model_dump()})
    tuned, _ = load_tuned(llm, tmp_path / "adapter")
    assert done.nll["tuned"] == pytest.approx(nll_of_each_card(tuned, tokenizer), abs=CLOSE[quantize])
    with tuned.disable_adapter():
        assert done.nll["base"] == pytest.approx(nll_of_each_card(tuned, tokenizer), abs=CLOSE[quantize])


def nll_of_each_card(model, tokenizer) -> list[float]:
    """The likelihood of each validation answer, from a forward pass of its own."""
    import torch

    from medcards.llm.generation import generate

    asked = VALIDATION.question.tolist(), "", 1, 1
    with torch.no_grad():
        return [answer.nll for answer in generate(model, tokenizer, *asked, references=VALIDATION.answer.tolist())]


def test_quantised_bases_are_smaller(llama, tmp_path):
    size = {
        kind: tune(llama, tmp_path / kind, quantize=kind)[0].facts["base_bytes"] for kind in ("none", "int8", "nf4")
    }
    assert size["nf4"] < size["int8"] < size["none"]


@pytest.mark.parametrize("template", [tiny.CHAT_TEMPLATE, None], ids=["chat template", "plain"])
@pytest.mark.parametrize("architecture", ["llama", "qwen2", "gpt2"])
def test_every_linear_layer_of_every_architecture(tmp_path, architecture, template):
    """all-linear finds them all but the head, with and without a chat template. No tokenizer has a padding token."""
    from peft import PeftModel
    from torch.nn import Linear
    from transformers import AutoModelForCausalLM
    from transformers.pytorch_utils import Conv1D

    from medcards.llm.generation import generate
    from medcards.llm.loading import load_llm

    folder = tiny.make_llm(tmp_path / "llm", template, architecture)
    done, live = tune(folder, tmp_path / "scratch")
    losses = [value for _, name, value in live.points if name == "validation_loss"]
    assert losses[-1] < losses[0]
    plain = AutoModelForCausalLM.from_pretrained(folder)
    linear = {name for name, part in plain.named_modules() if isinstance(part, Linear | Conv1D)} - {"lm_head"}
    assert len(linear) == {"llama": 14, "qwen2": 14, "gpt2": 8}[architecture]
    llm = tiny.llm_params(folder)
    model, tokenizer = load_llm(llm)
    tuned = PeftModel.from_pretrained(model, done.best)
    prefix = "base_model.model."
    assert {name.removeprefix(prefix) for name, part in tuned.named_modules() if hasattr(part, "lora_A")} == linear
    assert len(generate(tuned, tokenizer, ["What is gout?", "Why?"], "", 8, 64)) == 2


@pytest.mark.parametrize(
    "changes",
    [
        {"use_rslora": True},
        {"use_dora": True},
        {"init": "gaussian"},
        {"init": "orthogonal"},
        {"target_modules": ["q_proj"]},
    ],
    ids=str,
)
def test_lora_options(llama, tmp_path, changes):
    """A new adapter leaves the base's logits as they are. Training lowers the loss. The adapter keeps its options."""
    import torch
    from peft import LoraConfig, get_peft_model

    from medcards.llm.loading import load_llm
    from medcards.llm.lora import lora_config

    new = get_peft_model(load_llm(tiny.llm_params(llama))[0], lora_config(lora_params(**changes))).eval()
    ids = torch.arange(20, 40)[None]
    with torch.no_grad():
        logits = new(input_ids=ids).logits
        with new.disable_adapter():
            assert (logits - new(input_ids=ids).logits).abs().max() < 1e-5
    done, live = tune(llama, tmp_path, lora_params(**changes))
    losses = [value for _, name, value in live.points if name == "validation_loss"]
    assert losses[-1] < losses[0]
    config = LoraConfig.from_pretrained(done.best)
    for name, value in changes.items():
        kept = getattr(config, {"init": "init_lora_weights"}.get(name, name))
        assert (sorted(kept) if isinstance(kept, set) else kept) == value


def test_trainable_parameters_grow_with_the_rank(llama, tmp_path):
    few, many = (tune(llama, tmp_path / str(r), lora_params(r=r), epochs=0.25)[0].facts for r in (4, 8))
    assert many["trainable_parameters"] == 2 * few["trainable_parameters"]
    assert few["trainable_share"] == pytest.approx(few["trainable_parameters"] / few["parameters"])


def test_training_stops_early_and_keeps_the_best(llama, tmp_path):
    """The learning rate is far too large, so the loss only grows after the warm-up."""
    changes = {"learning_rate": 5.0, "epochs": 6.0, "evaluate_steps": 1, "warmup_share": 0.5, "max_grad_norm": 100.0}
    done, live = tune(llama, tmp_path, patience=2, **changes)
    curve = {step: value for step, name, value in live.points if name == "validation_loss" and step}
    assert done.facts["stopped_early"] and done.facts["steps"] < 24
    assert done.facts["best_step"] == min(curve, key=curve.get) == done.facts["steps"] - 2
    assert done.best.name == f"checkpoint-{done.facts['best_step']}" and done.best.exists()

    again, live_again = tune(llama, tmp_path, patience=2, **changes)  # as after a kill right before the end
    assert (again.facts, live_again.points) == (done.facts, live.points)


def test_a_loss_that_is_not_finite_is_an_error(llama, tmp_path):
    with pytest.raises(InputError, match="not finite: lower finetune.learning_rate"):
        tune(llama, tmp_path, learning_rate=1e30, max_grad_norm=1e30)


def test_activation_checkpointing_changes_nothing_but_memory(llama, tmp_path):
    plain, checkpointed = (
        tune(llama, tmp_path / str(on), activation_checkpointing=on)[1].points for on in (False, True)
    )
    assert [value for *_, value in plain] == pytest.approx([value for *_, value in checkpointed], abs=1e-5)


@pytest.mark.parametrize("quantize", ["none", "int8", "nf4"])
def test_a_resumed_training_equals_an_uninterrupted_one(llama, tmp_path, quantize, monkeypatch):
    """The adapter of a quantised base is in bfloat16, before and after the interruption."""
    from safetensors.torch import load_file

    from medcards.llm.checkpoints import CheckpointingTrainer

    settings = {"epochs": 2.0, "quantize": quantize, "log_steps": 3}
    whole, live = tune(llama, tmp_path / "whole", lora_params(dropout=0.1), **settings)
    real = CheckpointingTrainer._save_checkpoint

    def broken(self, model, trial):
        real(self, model, trial)
        if self.state.global_step == 4:
            raise KeyboardInterrupt

    monkeypatch.setattr(CheckpointingTrainer, "_save_checkpoint", broken)
    with pytest.raises(KeyboardInterrupt):
        tune(llama, tmp_path / "broken", lora_params(dropout=0.1), **settings)
    monkeypatch.undo()
    resumed, live_again = tune(llama, tmp_path / "broken", lora_params(dropout=0.1), **settings)
    assert resumed.facts == whole.facts
    for point, again in zip(live.points, live_again.points, strict=True):
        assert again == (*point[:2], pytest.approx(point[2], abs=1e-4))
    kept, again = ({weight.dtype for weight in load_file(run.best / WEIGHTS).values()} for run in (whole, resumed))
    assert kept == again
    if quantize != "nf4":  # whose losses differ in the sixth digit
        assert (resumed.best / WEIGHTS).read_bytes() == (whole.best / WEIGHTS).read_bytes()
