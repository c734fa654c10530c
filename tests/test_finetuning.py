"""Fine-tuning: rows, order, LoRA on several architectures, early stopping; on tiny models made here."""

import json

import pandas as pd
import pytest
import tiny

from medcards import InputError


def cards(rows: list[dict]) -> pd.DataFrame:
    return pd.DataFrame(rows).rename(columns={"input": "question", "output": "answer"})


DECK = cards(tiny.deck(40))
WEIGHTS = "adapter_model.safetensors"
TRAIN, VALIDATION = DECK[:32], DECK[32:]


def finetune_params(**changes):
    from medcards.llm.training import FinetuneParams

    values = {
        "launch": "python",
        "train_cards": 32,
        "validation_cards": 8,
        "context_share": 0.0,
        "context_cards": 3,
        "max_length": 128,
        "epochs": 1.0,
        "batch_size": 4,
        "gradient_accumulation": 2,
        "learning_rate": 0.01,
        "schedule": "cosine",
        "warmup_share": 0.1,
        "max_grad_norm": 1.0,
        "activation_checkpointing": False,
        "log_steps": 1,
        "evaluate_steps": 2,
        "patience": 0,
    }
    return FinetuneParams(**(values | changes))


def lora_params(**changes):
    from medcards.llm.training import LoraParams

    values = {"r": 4, "alpha": 8, "dropout": 0.0, "target_modules": "all-linear", "use_rslora": False}
    return LoraParams(**(values | {"use_dora": False, "init": "default"} | changes))


class Recorder:
    """Takes DVCLive's place."""

    def __init__(self):
        self.step, self.points = 0, []

    def log_metric(self, name, value):
        self.points.append((self.step, name, value))

    def make_summary(self):
        pass


def tune(folder, scratch, lora=None, quantize="none", device="auto", dtype="auto", **changes):
    """Tune a tiny model on tiny cards; (what training left, its curves, its speed)."""
    from medcards.llm.loading import load_tokenizer
    from medcards.llm.training import Curves, train_adapter, training_rows

    llm = tiny.llm_params(folder, quantize=quantize, device=device, dtype=dtype)
    tokenizer = load_tokenizer(llm)
    rows = [training_rows(tokenizer, table, "", 128)[0] for table in (TRAIN, VALIDATION)]
    live, clocked = Recorder(), Recorder()
    params = finetune_params(**changes)
    done = train_adapter(llm, tokenizer, *rows, lora or lora_params(), params, 1, scratch, [Curves(live, clocked)])
    return done, live, clocked


@pytest.fixture(scope="module")
def llama(tmp_path_factory):
    return tiny.make_llm(tmp_path_factory.mktemp("llama"))


@pytest.fixture(scope="module", params=["chat template", "plain"])
def tokenizer(request, tmp_path_factory):
    from medcards.llm.loading import load_tokenizer

    template = tiny.CHAT_TEMPLATE if request.param == "chat template" else None
    return load_tokenizer(tiny.llm_params(tiny.make_llm(tmp_path_factory.mktemp("llm"), template)))


GOUT = cards([{"input": "What is gout?", "output": "gout is a fever"}])


def test_training_counts_the_tokens_that_evaluation_asks_with(tokenizer, llama, tmp_path):
    """What TRL trains on is the prompt's ids, and a loss on the answer and its end."""
    from transformers import AutoModelForCausalLM
    from trl import SFTConfig, SFTTrainer

    from medcards.llm.prompts import prompt_ids
    from medcards.llm.training import training_rows

    rows, _ = training_rows(tokenizer, GOUT, "Be brief.", 128, [["Gout hurts."]])
    settings = SFTConfig(
        output_dir=str(tmp_path), use_cpu=True, bf16=False, report_to="none", completion_only_loss=True
    )
    model = AutoModelForCausalLM.from_pretrained(llama)
    trainer = SFTTrainer(model=model, args=settings, train_dataset=rows, processing_class=tokenizer)
    batch = next(iter(trainer.get_train_dataloader()))
    ids, labels = batch["input_ids"][0].tolist(), batch["labels"][0].tolist()
    head = prompt_ids(tokenizer, "What is gout?", "Be brief.", ["Gout hurts."])
    assert ids[: len(head)] == head
    assert labels == [-100] * len(head) + ids[len(head) :]
    assert "gout is a fever" in tokenizer.decode(ids[len(head) :])
    assert tokenizer.eos_token_id in ids[len(head) :]
    whole = tokenizer.decode(ids)
    assert whole.index("Be brief.") < whole.index("- Gout hurts.") < whole.index("What is gout?")


def test_a_row_and_the_template_give_the_same_tokens(tokenizer):
    """The parts of a row are those that the template gives for the whole conversation."""
    from medcards.llm.prompts import prompt
    from medcards.llm.training import training_rows

    rows, _ = training_rows(tokenizer, GOUT, "Be brief.", 128)
    messages = [*prompt("What is gout?", "Be brief."), {"role": "assistant", "content": "gout is a fever"}]
    text = tokenizer.apply_chat_template(messages, tokenize=False)
    assert tokenizer.decode(rows[0]["input_ids"]) == text


def test_what_is_cut_is_counted(tokenizer, caplog):
    from medcards.llm.training import training_rows

    table, context = pd.concat([GOUT] * 3), [[], ["Gout hurts. " * 3, "Gout comes back. " * 3], []]
    whole, counts = training_rows(tokenizer, table, "", 500, context)
    lengths = [len(ids) for ids in whole["input_ids"]]
    assert counts["rows"] == 3 and counts["with_context"] == 1 and counts["tokens"] == sum(lengths)
    assert not any(counts[what] for what in ("context_cards_left_out", "answers_cut", "left_out"))

    with caplog.at_level("INFO"):
        cut, counts = training_rows(tokenizer, table, "", lengths[1] - 1, context)
    assert (counts["context_cards_left_out"], counts["answers_cut"], counts["with_context"]) == (1, 0, 1)
    assert "context cards left out: 1 of 3 rows" in caplog.text
    assert len(cut[1]["input_ids"]) < lengths[1]

    cut, counts = training_rows(tokenizer, table, "", lengths[0] - 1, context)
    assert counts["answers_cut"] == 3 and counts["with_context"] == 0
    assert cut[0]["input_ids"] == whole[0]["input_ids"][:-1]
    with pytest.raises(InputError, match="finetune.max_length=3 tokens leave no room"):
        training_rows(tokenizer, table, "", 3)


def test_context_is_never_of_the_own_group():
    import numpy as np

    from medcards.search.context import nearest_training_cards
    from medcards.search.encoder import Embeddings

    angles = np.array([0.0, 0.2, 0.5, 0.9, 1.4])
    vectors = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    table = pd.DataFrame({"card_id": list("abcde"), "group": [0, 0, 1, 2, 2], "question": list("ABCDE")})
    table = table.assign(answer="x")
    empty = np.zeros((0, 2), np.float32)
    ids, none = np.array(list("abcde")), np.zeros(5, np.int32)
    embeddings = Embeddings(np.array([]), empty, none[:0], ids, vectors, none, 8)
    found = nearest_training_cards(table, table, embeddings, 2)
    assert found == [["C x", "D x"], ["C x", "D x"], ["B x", "D x"], ["C x", "B x"], ["C x", "B x"]]


def test_order():
    """An epoch has every card once; the cards of a step are a random sample, sorted by length; every step is full."""
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
    assert len(training_order(lengths[:5], finetune_params(), seed=1)) == 5  # less than a step is one all the same


@pytest.mark.parametrize("quantize", ["none", "int8", "nf4"])
def test_tuning_lowers_the_loss_and_the_adapter_comes_back(llama, tmp_path, quantize):
    from peft import PeftModel

    from medcards.llm.generation import answer_nll
    from medcards.llm.loading import load_llm
    from medcards.llm.training import save_adapter

    done, live, clocked = tune(llama, tmp_path / "scratch", quantize=quantize)
    curve = {step: value for step, name, value in live.points if name == "validation_loss"}
    assert list(curve) == [0, 2, 4]  # 32 cards, 8 a step; validated before the first step
    assert curve[4] < curve[2] < curve[0]
    assert {name for _, name, _ in live.points} == {"train_loss", "validation_loss", "learning_rate", "gradient_norm"}
    assert [step for step, name, _ in live.points if name == "train_loss"] == [1, 2, 3, 4]
    assert [step for step, _, _ in clocked.points] == [1, 2, 3, 4] and min(speed for *_, speed in clocked.points) > 0
    assert (done.facts["steps"], done.facts["best_step"], done.facts["stopped_early"]) == (4, 4, False)

    llm = tiny.llm_params(llama, quantize=quantize)
    model, tokenizer = load_llm(llm)
    save_adapter(done.best, tmp_path / "adapter", "pypi:base", tokenizer)
    assert {file.name for file in (tmp_path / "adapter").iterdir()} == {
        "adapter_config.json",
        "adapter_model.safetensors",
        "chat_template.jinja",
        "tokenizer.json",
        "tokenizer_config.json",
    }
    config = json.loads((tmp_path / "adapter/adapter_config.json").read_text())
    assert (config["base_model_name_or_path"], config["r"]) == ("pypi:base", 4)
    held_out = VALIDATION.question.tolist(), VALIDATION.answer.tolist(), "", 3
    before = answer_nll(model, tokenizer, *held_out)
    after = answer_nll(PeftModel.from_pretrained(model, tmp_path / "adapter"), tokenizer, *held_out)
    assert sum(before) / 8 == pytest.approx(curve[0], rel=0.01)
    assert sum(after) / 8 == pytest.approx(curve[4], rel=0.01)


def test_quantised_bases_are_smaller(llama, tmp_path):
    size = {
        kind: tune(llama, tmp_path / kind, quantize=kind)[0].facts["base_bytes"] for kind in ("none", "int8", "nf4")
    }
    assert size["nf4"] < size["int8"] < size["none"]


@pytest.mark.parametrize("template", [tiny.CHAT_TEMPLATE, None], ids=["chat template", "plain"])
@pytest.mark.parametrize("architecture", ["llama", "qwen2", "gpt2"])
def test_every_linear_layer_of_every_architecture(tmp_path, architecture, template):
    """all-linear finds them, the head left out; with or without a chat template, always without a padding token."""
    from peft import PeftModel
    from torch.nn import Linear
    from transformers import AutoModelForCausalLM
    from transformers.pytorch_utils import Conv1D

    from medcards.llm.generation import generate
    from medcards.llm.loading import load_llm

    folder = tiny.make_llm(tmp_path / "llm", template, architecture)
    done, live, _ = tune(folder, tmp_path / "scratch")
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
    assert len(generate(tuned, tokenizer, ["What is gout?", "Why?"], "", 8, 2)) == 2


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
    from peft import LoraConfig

    done, live, _ = tune(llama, tmp_path, lora_params(**changes))
    losses = [value for _, name, value in live.points if name == "validation_loss"]
    assert losses[0] == pytest.approx(tune_plain_start(llama, tmp_path / "plain"), abs=1e-5)  # the base as it came
    assert losses[-1] < losses[0]
    config = LoraConfig.from_pretrained(done.best)
    for name, value in changes.items():
        kept = getattr(config, {"init": "init_lora_weights"}.get(name, name))
        assert (sorted(kept) if isinstance(kept, set) else kept) == value


def tune_plain_start(llama, scratch) -> float:
    """The validation loss before the first step of a plain adapter."""
    _, live, _ = tune(llama, scratch, epochs=0.25)
    return next(value for _, name, value in live.points if name == "validation_loss")


def test_rank_is_what_it_costs(llama, tmp_path):
    few, many = (tune(llama, tmp_path / str(r), lora_params(r=r), epochs=0.25)[0].facts for r in (4, 8))
    assert many["trainable_parameters"] == 2 * few["trainable_parameters"]
    assert few["trainable_share"] == pytest.approx(few["trainable_parameters"] / few["parameters"])


def test_training_stops_early_and_keeps_the_best(llama, tmp_path):
    """With steps far too large: after the warm-up it only gets worse."""
    changes = {"learning_rate": 5.0, "epochs": 6.0, "evaluate_steps": 1, "warmup_share": 0.5, "max_grad_norm": 100.0}
    done, live, _ = tune(llama, tmp_path, patience=2, **changes)
    curve = {step: value for step, name, value in live.points if name == "validation_loss" and step}
    assert done.facts["stopped_early"] and done.facts["steps"] < 24
    assert done.facts["best_step"] == min(curve, key=curve.get) == done.facts["steps"] - 2
    assert done.best.name == f"checkpoint-{done.facts['best_step']}" and done.best.exists()

    again, live_again, _ = tune(llama, tmp_path, patience=2, **changes)  # killed right before it could say so
    assert (again.facts, live_again.points) == (done.facts, live.points)


def test_a_loss_that_is_not_finite_is_an_error(llama, tmp_path):
    with pytest.raises(InputError, match="not finite: lower finetune.learning_rate"):
        tune(llama, tmp_path, learning_rate=1e30, max_grad_norm=1e30)


def test_activation_checkpointing_changes_nothing_but_memory(llama, tmp_path):
    plain, checkpointed = (
        tune(llama, tmp_path / str(on), activation_checkpointing=on)[1].points for on in (False, True)
    )
    assert [value for *_, value in plain] == pytest.approx([value for *_, value in checkpointed], abs=1e-5)


def test_machine_choices_are_checked(llama, tmp_path):
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


def test_a_tokenizer_of_another_model(tmp_path):
    from transformers import AutoTokenizer

    from medcards.llm.loading import load_llm

    folder = tiny.make_llm(tmp_path / "llm")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_tokens([f"new{number}" for number in range(100)])
    tokenizer.save_pretrained(folder)
    with pytest.raises(InputError, match="its tokenizer has 5.. tokens, but the model knows 416"):
        load_llm(tiny.llm_params(folder))


@pytest.mark.parametrize("quantize", ["none", "int8", "nf4"])
def test_training_goes_on_as_if_it_had_never_stopped(llama, tmp_path, quantize, monkeypatch):
    """Of quantised bases the adapter is in bfloat16, before and after the break."""
    from safetensors.torch import load_file

    from medcards import tuning

    settings = {"epochs": 2.0, "quantize": quantize, "log_steps": 3}
    whole, live, _ = tune(llama, tmp_path / "whole", lora_params(dropout=0.1), **settings)
    real = tuning._Trainer._save_checkpoint

    def broken(self, model, trial):
        real(self, model, trial)
        if self.state.global_step == 4:
            raise KeyboardInterrupt

    monkeypatch.setattr(tuning._Trainer, "_save_checkpoint", broken)
    with pytest.raises(KeyboardInterrupt):
        tune(llama, tmp_path / "broken", lora_params(dropout=0.1), **settings)
    monkeypatch.undo()
    resumed, live_again, _ = tune(llama, tmp_path / "broken", lora_params(dropout=0.1), **settings)
    assert resumed.facts == whole.facts
    for point, again in zip(live.points, live_again.points, strict=True):
        assert again == (*point[:2], pytest.approx(point[2], abs=1e-4))
    kept, again = ({weight.dtype for weight in load_file(run.best / WEIGHTS).values()} for run in (whole, resumed))
    assert kept == again
    if quantize != "nf4":  # whose losses differ in the sixth digit
        assert (resumed.best / WEIGHTS).read_bytes() == (whole.best / WEIGHTS).read_bytes()
