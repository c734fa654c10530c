"""Vectors, language model and tuning, on tiny models made here."""

import json

import numpy as np
import pandas as pd
import pytest
import tiny

from medcards import InputError
from medcards.files import sha256_of


def test_embeddings(tmp_path):
    from medcards.encoder import Embeddings, embed_cards, encode, load_encoder

    folder = tiny.make_encoder(tmp_path / "encoder")
    table = pd.DataFrame(tiny.deck(6)).rename(columns={"input": "question", "output": "answer"})
    table = table.assign(card_id=list("abcdef"), query_set=["own"] * 5 + ["layperson"])
    encoder = load_encoder(folder)
    embeddings = embed_cards(encoder, table, batch_size=4)
    assert embeddings.answers.shape == (5, 32) and embeddings.questions.shape == (6, 32)
    assert embeddings.answers.dtype == np.float32
    assert np.linalg.norm(embeddings.questions, axis=1) == pytest.approx(np.ones(6), abs=1e-5)
    alone = encode(encoder, [table.question[4]], 1)
    assert embeddings.questions_of(["e"])[0] == pytest.approx(alone[0], abs=1e-5)
    assert embeddings.max_tokens == 64
    assert embeddings.question_tokens_of(["e"]).tolist() == [embeddings.question_tokens[4]]
    long = table.assign(answer="asthma " * 500)
    counted = embed_cards(encoder, long, batch_size=4)
    assert counted.answer_tokens.tolist() == [502] * 5  # a token a word, and the two that frame a text

    embeddings.save(tmp_path / "saved")
    assert Embeddings.load(tmp_path / "saved", table).answer_ids.tolist() == list("abcde")
    with pytest.raises(InputError, match="belongs to other cards"):
        Embeddings.load(tmp_path / "saved", table[:4])
    np.save(tmp_path / "saved/answers.npy", embeddings.answers + 1)
    with pytest.raises(InputError, match="not what its manifest says"):
        Embeddings.load(tmp_path / "saved", table)


@pytest.fixture(scope="module", params=["chat template", "plain"])
def llm(request, tmp_path_factory):
    """(model, tokenizer, parameters) of a tiny model, with and without a chat template."""
    from medcards.llm import LlmParams, load_llm

    template = tiny.CHAT_TEMPLATE if request.param == "chat template" else None
    folder = tiny.make_llm(tmp_path_factory.mktemp("llm"), template)
    params = LlmParams(model=f"path:{folder}", quantize="none", system_prompt="Be brief.")
    return *load_llm(params), params


def test_answers_do_not_depend_on_the_batch(llm):
    from medcards.llm import generate

    model, tokenizer, params = llm
    questions = ["What is gout?", "What should a nurse know about asthma, case 1, and what comes next?", "Why?"]
    together = generate(model, tokenizer, questions, params, 8, 4)
    alone = [generate(model, tokenizer, [question], params, 8, 4)[0] for question in questions]
    assert together == alone
    assert all(together)


def test_likelihood_is_that_of_the_answer_tokens(llm):
    import torch

    from medcards.llm import answer_nll, prompt

    model, tokenizer, params = llm
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
    assert answer_nll(model, tokenizer, [question], [answer], params) == pytest.approx([np.mean(by_hand)], rel=1e-4)


def test_training_counts_the_same_tokens_as_the_likelihood(llm, tmp_path):
    """What TRL trains on is what evaluation prompts with: the same prompt ids, and a loss on the rest."""
    from trl import SFTConfig, SFTTrainer

    from medcards.llm import prompt_ids
    from medcards.tuning import training_rows

    model, tokenizer, params = llm
    cards = pd.DataFrame({"question": ["What is gout?"], "answer": ["gout is a fever"]})
    settings = SFTConfig(
        output_dir=str(tmp_path), completion_only_loss=True, use_cpu=True, bf16=False, report_to="none"
    )
    trainer = SFTTrainer(
        model=model, args=settings, train_dataset=training_rows(cards, "Be brief."), processing_class=tokenizer
    )
    batch = next(iter(trainer.get_train_dataloader()))
    ids, labels = batch["input_ids"][0].tolist(), batch["labels"][0].tolist()
    head = prompt_ids(tokenizer, "What is gout?", "Be brief.")
    assert ids[: len(head)] == head
    assert labels[: len(head)] == [-100] * len(head)
    assert labels[len(head) : len(head) + 3] == ids[len(head) : len(head) + 3]


def finetune_params(**changes):
    from medcards.tuning import FinetuneParams

    values = {
        "train_cards": 32,
        "validation_cards": 8,
        "max_length": 128,
        "epochs": 1.0,
        "batch_size": 8,
        "gradient_accumulation": 1,
        "learning_rate": 0.01,
        "schedule": "cosine",
        "warmup_share": 0.1,
        "activation_checkpointing": False,
        "log_steps": 1,
        "evaluate_steps": 2,
    }
    return FinetuneParams(**(values | changes))


def tune(folder, scratch, quantize: str = "none"):
    """Tune a tiny model on tiny cards; (the tuned model, its tokenizer, the trainer's log, the model's parameters)."""
    from medcards.llm import LlmParams, load_llm
    from medcards.tuning import Curves, LoraParams, train_adapter, training_rows

    class Recorder:
        def __init__(self):
            self.step, self.points = 0, []

        def log_metric(self, name, value):
            self.points.append((self.step, name, value))

        def make_summary(self):
            pass

    params = LlmParams(model=f"path:{folder}", quantize=quantize, system_prompt="")
    model, tokenizer = load_llm(params)
    table = pd.DataFrame(tiny.deck(40)).rename(columns={"input": "question", "output": "answer"})
    rows = training_rows(table[:32], ""), training_rows(table[32:], "")
    lora = LoraParams(r=4, alpha=8, dropout=0.0, target_modules="all-linear")
    recorder = Recorder()
    tuned = train_adapter(model, tokenizer, *rows, lora, finetune_params(), 1, scratch, [Curves(recorder)])
    return tuned, tokenizer, recorder.points, params


@pytest.mark.parametrize("quantize", ["none", "int8", "nf4"])
def test_tuning_lowers_the_loss_and_the_adapter_comes_back(tmp_path, quantize):
    from peft import PeftModel

    from medcards.llm import answer_nll, load_llm
    from medcards.tuning import save_adapter

    folder = tiny.make_llm(tmp_path / "llm")
    tuned, tokenizer, points, params = tune(folder, tmp_path / "scratch", quantize)
    curve = {step: value for step, name, value in points if name == "validation_loss"}
    assert list(curve) == [0, 2, 4]  # 32 cards, 8 at a time; validated before the first step
    assert curve[4] < curve[0]
    assert {name for _, name, _ in points} == {"train_loss", "validation_loss", "learning_rate", "grad_norm"}

    save_adapter(tuned, tmp_path / "adapter", "pypi:base")
    assert {file.name for file in (tmp_path / "adapter").iterdir()} == {
        "adapter_config.json",
        "adapter_model.safetensors",
    }
    config = json.loads((tmp_path / "adapter/adapter_config.json").read_text())
    assert (config["base_model_name_or_path"], config["r"]) == ("pypi:base", 4)
    loaded = PeftModel.from_pretrained(load_llm(params)[0], tmp_path / "adapter")
    question = ["What should a nurse know about gout, case 32?"], ["In case 32, causes of gout."]
    assert answer_nll(loaded, tokenizer, *question, params) == pytest.approx(
        answer_nll(tuned, tokenizer, *question, params), rel=1e-3
    )


def test_one_seed_gives_one_adapter(tmp_path):
    from medcards.tuning import save_adapter

    folder = tiny.make_llm(tmp_path / "llm")
    for name in ("a", "b"):
        save_adapter(tune(folder, tmp_path / "scratch")[0], tmp_path / name, "pypi:base")
    assert sha256_of(tmp_path / "a/adapter_model.safetensors") == sha256_of(tmp_path / "b/adapter_model.safetensors")
