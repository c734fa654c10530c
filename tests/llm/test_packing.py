"""A packed batch has the losses and the gradients of TRL's padded batch, on tiny models of several architectures."""

from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
import torch
from datasets import Dataset
from peft import LoraConfig
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from torch.nn.functional import cross_entropy
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast
from trl import SFTConfig, SFTTrainer

from medcards.llm import trainer as trainer_module
from medcards.llm.attention import ARCHITECTURES, GROUPED, group_attention
from medcards.llm.packing import IGNORED, LONGEST, can_pack, pack
from medcards.llm.trainer import CardTrainer, validation_nll

VOCABULARY = 96
SHAPE = {"hidden_size": 32, "num_hidden_layers": 2, "intermediate_size": 64}
SHAPE |= {"num_attention_heads": 2, "num_key_value_heads": 1}
NO_DROPOUT = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
OF = {"gpt2": NO_DROPOUT, "phi3": NO_DROPOUT, "gemma": {"head_dim": 16}, "qwen3": {"head_dim": 16}}


def row(prompt: list[int], answer: list[int], citation: int = 0) -> dict[str, list[int]]:
    """A row whose answer begins with ``citation`` tokens of a citation."""
    masks = {"completion_mask": [0] * len(prompt) + [1] * len(answer)}
    masks["citation_mask"] = [0] * len(prompt) + [1] * citation + [0] * (len(answer) - citation)
    return {"input_ids": prompt + answer} | masks


ROWS = Dataset.from_list(
    [
        row([7, 8, 9, 50], [*range(60, 75), 2], citation=3),
        row([7, 8, 9, 50], [61, 62, 2]),  # the question of the row before
        row([7, 8, 9, 50], [61, 62, 2]),  # the same card again
        row([7, 8, 9, *range(20, 33)], [40, 41, 2]),
        row([7, 8, 30, 31, 32], [33, 2]),
        row([7, 80, *range(80, 90)], [9, 2], citation=1),
        row([70], [71, 72, 2]),  # shares no start
        row([7, 8, 9, 10, 11], [12]),
    ]
)


def config(architecture: str, attention: str = "eager", **changes):
    shape = {"vocab_size": VOCABULARY, "pad_token_id": 1, "bos_token_id": 3, "eos_token_id": 2, **SHAPE}
    made = AutoConfig.for_model(architecture, **(shape | OF.get(architecture, {}) | changes))
    made._attn_implementation = attention
    return made


def trained(
    kind: Callable[..., SFTTrainer],
    scratch,
    architecture: str,
    attention: str = "eager",
    grouped: bool = False,
    **changes,
) -> SFTTrainer:
    """Two optimizer steps, the first on two batches of three rows, the second on the rest. The adapter starts at
    random. Plain gradient descent, so that the weights show the gradients."""
    words = Tokenizer(WordLevel({str(word): word for word in range(VOCABULARY)}, unk_token="0"))
    made = config(architecture, attention, **changes)
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(made, attn_implementation=attention)
    if grouped:
        group_attention(model)
        assert model.config._attn_implementation == GROUPED
    trainer = kind(
        model=model,
        args=SFTConfig(
            output_dir=str(scratch),
            use_cpu=True,
            bf16=False,
            max_length=None,
            loss_type="nll",
            completion_only_loss=True,
            report_to="none",
            train_sampling_strategy="sequential",
            num_train_epochs=1,
            per_device_train_batch_size=3,
            per_device_eval_batch_size=3,
            gradient_accumulation_steps=2,
            optim="sgd",
            learning_rate=0.5,
            lr_scheduler_type="constant",
            max_grad_norm=0.0,
            logging_steps=1,
            save_strategy="no",
            activation_checkpointing=False,
            disable_tqdm=True,
        ),
        train_dataset=ROWS,
        eval_dataset=ROWS,
        processing_class=PreTrainedTokenizerFast(tokenizer_object=words, pad_token="1", eos_token="2", bos_token="3"),
        peft_config=LoraConfig(r=4, init_lora_weights=False, target_modules="all-linear", task_type="CAUSAL_LM"),
    )
    trainer.train()
    return trainer


def losses(trainer: SFTTrainer) -> list[float]:
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


def adapter(trainer: SFTTrainer) -> torch.Tensor:
    return torch.cat([weight.detach().flatten() for weight in trainer.model.parameters() if weight.requires_grad])


def nll_of_each_row_alone(trainer: SFTTrainer) -> list[float]:
    """From the logits of a row without padding and without a mask."""
    trainer.model.eval()
    nll = []
    for row in trainer.eval_dataset:
        ids, labels = torch.tensor(row["input_ids"]), torch.tensor(row["labels"])
        with torch.no_grad():
            logits = trainer.model(input_ids=ids[None]).logits[0]
        nll.append(float(cross_entropy(logits[:-1], labels[1:], ignore_index=IGNORED)))
    return nll


def test_pack():
    """The rows begin with 7, 8. The third token of the second row predicts its answer, so it is not shared."""
    rows = [
        {"input_ids": [7, 8, 9, 4, 5], "labels": [IGNORED] * 3 + [4, 5]},
        {"input_ids": [7, 8, 9, 6], "labels": [IGNORED] * 3 + [6]},
    ]
    packed = pack(rows, torch.float32)
    assert packed["input_ids"].tolist() == [[7, 8, 9, 4, 5, 9, 6]]
    assert packed["labels"].tolist() == [[IGNORED] * 3 + [4, 5, IGNORED, 6]]
    assert packed["position_ids"].tolist() == [[0, 1, 2, 3, 4, 2, 3]]
    assert (packed["attention_mask"][0, 0] == 0).int().tolist() == [
        [1, 0, 0, 0, 0, 0, 0],
        [1, 1, 0, 0, 0, 0, 0],
        [1, 1, 1, 0, 0, 0, 0],
        [1, 1, 1, 1, 0, 0, 0],
        [1, 1, 1, 1, 1, 0, 0],
        [1, 1, 0, 0, 0, 1, 0],
        [1, 1, 0, 0, 0, 1, 1],
    ]
    assert packed["row_tokens"] == 9


def test_a_packed_batch_has_the_weights_of_its_answer_tokens():
    """Two of the first row's three answer tokens make its citation. A weight of 1 adds nothing to the batch."""
    rows = [
        {"input_ids": [7, 8, 9, 4, 5, 2], "labels": [IGNORED] * 3 + [4, 5, 2], "citation_mask": [0, 0, 0, 1, 1, 0]},
        {"input_ids": [7, 8, 9, 6], "labels": [IGNORED] * 3 + [6], "citation_mask": [0] * 4},
    ]
    assert pack(rows, torch.float32, citation_weight=4.0)["weights"].tolist() == [4, 4, 1, 1]
    assert "weights" not in pack(rows, torch.float32, citation_weight=1.0)


@pytest.mark.parametrize("packed", [True, False], ids=["packed", "padded"])
def test_the_tokens_of_a_citation_weigh_more_in_the_training_loss(tmp_path, monkeypatch, packed):
    """A model that finds all 96 words equally likely loses ln 96 = 4.564348 nats per token.

    The first three rows have 16, 3 and 3 answer tokens, of which 3 make a citation. With the weight 5, the sum of the
    weights is 34, and the number of tokens that divides it stays 22. The validation loss has no weights.
    """
    monkeypatch.setattr(trainer_module, "can_pack", lambda *_: packed)
    trainer = trained(partial(CardTrainer, citation_weight=5.0), tmp_path, "llama")
    assert trainer.packed == packed
    torch.nn.init.zeros_(trainer.model.get_base_model().lm_head.weight)
    batch = trainer._prepare_inputs(next(iter(trainer.get_train_dataloader())))
    assert float(trainer.compute_loss(trainer.model, dict(batch))) == pytest.approx(4.564348 * 34 / 22, abs=1e-5)
    halved = trainer.compute_loss(trainer.model, dict(batch), num_items_in_batch=torch.tensor(44))
    assert float(halved) == pytest.approx(4.564348 * 34 / 44, abs=1e-5)
    assert trainer.evaluate()["eval_loss"] == pytest.approx(4.564348, abs=1e-5)


def test_weighted_training_is_the_same_packed_and_padded(tmp_path, monkeypatch):
    """And a weight of 1 trains byte for byte as no weight does."""
    weighted = partial(CardTrainer, citation_weight=5.0)
    packed = trained(weighted, tmp_path, "llama")
    plain, one = (trained(kind, tmp_path, "llama") for kind in (CardTrainer, partial(CardTrainer, citation_weight=1.0)))
    monkeypatch.setattr(trainer_module, "can_pack", lambda *_: False)
    padded = trained(weighted, tmp_path, "llama")
    assert packed.packed and not padded.packed
    assert losses(packed) == pytest.approx(losses(padded), abs=1e-5)
    assert (adapter(packed) - adapter(padded)).abs().max() < 1e-5
    assert losses(packed)[0] > losses(plain)[0] + 1
    assert losses(one) == losses(plain) and torch.equal(adapter(one), adapter(plain))


def test_a_mixture_of_experts_is_trained_with_weights_too(tmp_path):
    """Its loss of the balance between experts stays as it is."""
    plain, weighted = (
        trained(kind, tmp_path, "mixtral") for kind in (CardTrainer, partial(CardTrainer, citation_weight=5.0))
    )
    assert not weighted.packed and weighted.aux_loss_enabled
    assert losses(weighted)[0] > losses(plain)[0] + 1


@pytest.mark.parametrize("architecture", sorted(ARCHITECTURES))
def test_packed_training_with_grouped_attention_equals_trl(tmp_path, architecture):
    assert_training_is_equal(
        trained(SFTTrainer, tmp_path, architecture), trained(CardTrainer, tmp_path, architecture, grouped=True)
    )


@pytest.mark.parametrize(("architecture", "attention"), [("llama", "eager"), ("llama", "sdpa"), ("gpt2", "sdpa")])
def test_packed_training_equals_trl(tmp_path, architecture, attention):
    assert_training_is_equal(*(trained(kind, tmp_path, architecture, attention) for kind in (SFTTrainer, CardTrainer)))


def assert_training_is_equal(plain: SFTTrainer, packed: CardTrainer) -> None:
    assert packed.packed and len(losses(packed)) == 2
    assert losses(packed) == pytest.approx(losses(plain), abs=1e-5)
    assert (adapter(packed) - adapter(plain)).abs().max() < 1e-5
    assert [entry["num_tokens"] for entry in packed.state.log_history if "loss" in entry] == [74, 84]


@pytest.mark.parametrize(
    ("architecture", "changes"),
    [("llama", {}), ("mistral", {"sliding_window": 8}), ("bloom", {"n_layer": 2, "n_head": 2}), ("mixtral", {})],
    ids=["packed", "sliding window", "alibi", "mixture of experts"],
)
def test_validation_is_the_likelihood_of_each_row_alone(tmp_path, architecture, changes):
    """Packed or padded. Packing would widen a sliding window, and leave out ALiBi."""
    trainer = trained(CardTrainer, tmp_path, architecture, **changes)
    assert trainer.packed == (architecture == "llama")
    loss = trainer.evaluate()["eval_loss"]
    alone = nll_of_each_row_alone(trainer)
    assert validation_nll(tmp_path, 2) == pytest.approx(alone, abs=1e-5)
    assert loss == np.mean(validation_nll(tmp_path, 2))  # each card counts once, whatever the length of its answer


def test_validation_before_the_first_step_is_that_of_the_base(tmp_path):
    trainer = trained(CardTrainer, tmp_path, "llama")  # its adapter changes the model
    trainer.state.global_step = 0
    trainer.evaluate()
    with trainer.model.disable_adapter():
        alone = nll_of_each_row_alone(trainer)
    assert validation_nll(tmp_path, 0) == pytest.approx(alone, abs=1e-5)
    assert nll_of_each_row_alone(trainer) != pytest.approx(alone, abs=1e-2)


@pytest.mark.parametrize(
    ("architecture", "attention", "tokens", "changes", "packed"),
    [
        ("llama", "sdpa", LONGEST, {}, True),
        ("llama", "sdpa", LONGEST + 1, {}, False),
        ("llama", "flash_attention_2", 100, {}, False),
        ("mistral", "eager", 100, {"sliding_window": 99}, False),
        ("mistral", "eager", 100, {"sliding_window": None}, True),
        ("mistral", GROUPED, 100, {"sliding_window": None}, True),
        ("mamba", "eager", 100, {}, False),
        ("jamba", "eager", 100, {}, False),
        ("falcon", "eager", 100, {}, False),
    ],
)
def test_what_can_be_packed(architecture, attention, tokens, changes, packed):
    assert can_pack(config(architecture, attention, **changes), tokens) == packed
