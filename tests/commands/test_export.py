"""The command export: the folder, its model card, the comparison, and what is refused."""

import copy
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import tiny
from conftest import ROOT

from medcards import InputError
from medcards.base.files import read_json, write_json

QUESTION = "What should a nurse know about gout, case 52?"


def interval(mean: float, n: int = 12) -> dict:
    return {"mean": mean, "lo": mean - 0.05, "hi": mean + 0.05, "n": n}


def scores(mean: float) -> dict:
    return {"token_f1": interval(mean), "novel_f1": interval(mean / 2, 11), "em": interval(mean / 4)}


QA = {"split": "test"} | {
    name: scores(mean) for name, mean in (("echo", 0.211), ("copy_nearest", 0.222), ("base", 0.233), ("lora", 0.377))
}
QA["differences"] = {"lora-base": scores(0.144), "lora-echo": scores(0.166), "lora-copy_nearest": scores(0.155)}


def tune(root: Path, quantize: str) -> None:
    """Write a run's data under ``root``: cards, and an adapter as the finetune stage writes it. Its base samples."""
    from transformers import AutoModelForCausalLM

    from medcards.deck import cards as card_tables
    from medcards.llm.loading import LlmParams, load_tokenizer
    from medcards.llm.lora import LoraParams, describe_adapter, save_adapter
    from medcards.llm.tokenise import training_rows
    from medcards.llm.training import FinetuneParams, train_adapter

    base = AutoModelForCausalLM.from_pretrained(tiny.make_llm(root / "llm"))
    for weights in (parameter for parameter in base.parameters() if parameter.ndim == 2):
        weights.data *= 5  # with the usual narrow weights, it answers every question with one word
    base.save_pretrained(root / "llm")
    settings = read_json(root / "llm/generation_config.json") | {"do_sample": True, "temperature": 0.6, "top_p": 0.9}
    write_json(root / "llm/generation_config.json", settings)
    cards = pd.DataFrame(tiny.deck(60)).rename(columns={"input": "question", "output": "answer"})
    cards = cards.assign(card_id=cards.index.astype(str), group=cards.index, query_set="own", source="tiny")
    cards = cards.assign(concept="", branch="", split=["train"] * 40 + ["validation"] * 8 + ["test"] * 12)
    material = {"source": "file", "files": {"tiny.json": "ab" * 32}, "rows": 60}
    card_tables.save_cards(cards, root / "data/cards", material)
    llm = LlmParams(
        model=f"path:{root}/llm",
        quantize=quantize,
        device="cpu",
        dtype="float32",
        attention="auto",
        system_prompt='Say "I do not know"\n``` {{ or }} nothing.',
    )
    lora = LoraParams(
        r=8, alpha=16, dropout=0.0, target_modules="all-linear", use_rslora=False, use_dora=False, init="default"
    )
    finetune = FinetuneParams(
        launch="python",
        max_length=160,
        epochs=4.0,
        batch_size=8,
        gradient_accumulation=1,
        learning_rate=0.02,
        schedule="constant_with_warmup",
        warmup_share=0.0,
        max_grad_norm=1.0,
        activation_checkpointing=False,
        citation_weight=1.0,
        log_steps=1,
        evaluate_steps=5,
        patience=0,
    )
    tokenizer = load_tokenizer(llm)
    rows, counts = training_rows(tokenizer, cards[:40], llm.system_prompt, finetune.max_length)
    held_out, held_out_counts = training_rows(tokenizer, cards[40:48], llm.system_prompt, finetune.max_length)
    done = train_adapter(llm, tokenizer, rows, held_out, lora, finetune, 1, root / "scratch", [])
    (root / "data/adapter").mkdir()
    save_adapter(done.best, root / "data/adapter", llm.model, tokenizer, done.generation)
    metrics = {"train": counts, "validation": held_out_counts, **done.facts}
    likelihood = {"group": list(range(8)), "base": [3.01, 3.21] * 4, "tuned": [2.36] * 8}
    blocks = {"llm": llm.model_dump(), "lora": lora.model_dump(), "finetune": finetune.model_dump()}
    packages = {"torch": "2.0", "peft": "0.1"}
    manifest = {"seed": 7, **blocks, "metrics": metrics, "packages": packages, "material": material}
    describe_adapter(root / "data/adapter", manifest | {"validation": likelihood})


@pytest.fixture(scope="module")
def tuned(tmp_path_factory) -> Path:
    """The data of a run whose base was not quantised. No test changes them."""
    root = tmp_path_factory.mktemp("tuned")
    tune(root, "none")
    return root


def exported(root: Path, to: Path, **settings) -> dict:
    """Export the merged model of the run under ``root``, with the model card of its manifest."""
    from medcards.answers.scores import token_f1
    from medcards.llm.merge import export_merged, read_adapter
    from medcards.report.model_card import model_card

    manifest, _ = read_adapter(root / "data/adapter")
    card = model_card(manifest, merged=True)
    return export_merged(root / "data", to, card, token_f1, **settings)


def logits(model, tokenizer):
    import torch

    with torch.inference_mode():
        return model(**tokenizer(QUESTION, return_tensors="pt")).logits


@pytest.mark.parametrize("quantize", ["none", "nf4"])
def test_the_merged_model_equals_the_adapter_on_its_base(tmp_path, quantize, capsys):
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from medcards.__main__ import main

    tune(tmp_path, quantize)
    (tmp_path / "metrics").mkdir()
    write_json(tmp_path / "metrics/qa.json", QA)
    folder, adapter = tmp_path / "exported/mine", tmp_path / "data/adapter"
    main(["export", "--data", str(tmp_path / "data"), "--metrics", str(tmp_path / "metrics"), "--to", str(folder)])
    printed = capsys.readouterr().out
    assert f"hf upload OWNER/NAME {folder}" in printed
    assert ("tuned on an nf4 base" in printed) == (quantize == "nf4")

    tokenizer = AutoTokenizer.from_pretrained(folder)
    base = AutoModelForCausalLM.from_pretrained(tmp_path / "llm")
    untuned = logits(base, tokenizer)
    expected = logits(PeftModel.from_pretrained(base, adapter), tokenizer)
    assert (expected - untuned).abs().max() > 0.5  # otherwise a merge of nothing passes
    merged = AutoModelForCausalLM.from_pretrained(folder)
    assert merged.dtype == torch.float32 and not hasattr(merged, "peft_config")
    assert logits(merged, tokenizer).numpy() == pytest.approx(expected.numpy(), abs=1e-4)
    assert not merged.generation_config.do_sample and merged.generation_config.temperature is None

    parity = read_json(folder / "parity.json")
    assert parity["n"] == parity["merged"]["token_f1"]["n"] == 8 and parity["tuned_on"] == quantize
    assert 0 <= parity["largest_logit_difference"] < 1e-4 and parity["agreement"]["token_f1"]["mean"] == 1
    assert parity["merged"] == parity["adapter"]
    assert "0.377 [0.327, 0.427]" in (folder / "README.md").read_text()  # the scores of --metrics

    assert {file.name for file in folder.iterdir()} == {  # and no pickle
        "README.md",
        "chat_template.jinja",
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "parity.json",
        "tokenizer.json",
        "tokenizer_config.json",
    }
    for file in folder.iterdir():
        for place in (tmp_path, ROOT, Path.home()):
            assert bytes(place) + b"/" not in file.read_bytes(), file
    assert (folder / "model.safetensors").stat().st_mode == (folder / "config.json").stat().st_mode


def python_block(card: str) -> str:
    (code,) = re.findall(r"```python\n(.*?)\n```\n", card, re.DOTALL)
    return code


def test_the_code_of_the_merged_models_card_answers_without_peft(tuned, tmp_path):
    """In another process, which can import neither PEFT nor this repository."""
    exported(tuned, tmp_path / "mine")
    code = "import sys\nsys.modules.update(peft=None, medcards=None)\n" + python_block(
        (tmp_path / "mine/README.md").read_text()
    )
    done = subprocess.run(
        [sys.executable, "-c", code + "\nprint(len(output[0]))"], cwd=tmp_path / "mine", capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout.split()[-1]) > 10


def test_the_adapter_is_exported_with_its_card(tuned, tmp_path, monkeypatch, capsys):
    """The code of the card runs in the exported folder."""
    from medcards.__main__ import main

    folder = tmp_path / "exported/mine"
    command = ["export", "--adapter", "--to", str(folder), "--data", str(tuned / "data"), "--metrics", str(tmp_path)]
    main(command)
    printed = capsys.readouterr().out.splitlines()
    assert printed[0].endswith("qa.json is missing: the model card has no scores of answers")
    assert printed[-1] == f"to publish it: hf upload OWNER/NAME {folder}"
    assert {file.name for file in folder.iterdir()} == {
        "README.md",
        "adapter_config.json",
        "adapter_model.safetensors",
        "chat_template.jinja",
        "generation_config.json",
        "manifest.json",
        "tokenizer.json",
        "tokenizer_config.json",
    }
    for name in ("adapter_config.json", "adapter_model.safetensors", "manifest.json"):
        assert (folder / name).read_bytes() == (tuned / "data/adapter" / name).read_bytes(), name
    monkeypatch.chdir(folder)
    exec(python_block((folder / "README.md").read_text()), variables := {})
    assert variables["model"].peft_config["default"].r == 8
    assert variables["messages"][0]["content"] == 'Say "I do not know"\n``` {{ or }} nothing.'
    assert capsys.readouterr().out.strip()
    with pytest.raises(SystemExit, match="export: .*mine exists: .* --overwrite"):
        main(command)
    main([*command, "--overwrite"])


@pytest.mark.parametrize("name", ["adapter_model.safetensors", "adapter_config.json", "manifest.json"])
def test_a_damaged_adapter_is_not_exported(tuned, tmp_path, name):
    from medcards.llm.merge import export_adapter

    shutil.copytree(tuned / "data/adapter", tmp_path / "adapter")
    (tmp_path / "adapter" / name).write_text("{}")
    with pytest.raises(InputError, match="damaged: run `dvc repro -f finetune`"):
        export_adapter(tmp_path / "adapter", tmp_path / "mine", "card")
    assert [file.name for file in tmp_path.iterdir()] == ["adapter"]


def test_the_card_shows_the_manifest(tuned, tmp_path):
    from huggingface_hub import ModelCard

    from medcards.report.model_card import model_card

    manifest = read_json(tuned / "data/adapter/manifest.json")
    text = model_card(manifest)
    assert text == model_card(json.loads(json.dumps(manifest, sort_keys=True)))
    assert str(tuned) not in text and "`llm`, a folder of the user's own" in text
    (tmp_path / "README.md").write_text(text)
    card = ModelCard.load(tmp_path / "README.md")
    assert (card.data.library_name, card.data.language, card.data.pipeline_tag) == ("peft", "en", "text-generation")
    assert card.data.base_model is None and "qlora" not in card.data.tags
    assert [result.metric_value for result in card.data.eval_results] == [2.36]
    for told in (
        "| base | 3.110 [3.035, 3.185] |",
        "| this model | 2.360 [2.360, 2.360] |",
        "| paired difference | -0.750 [-0.825, -0.675] |",
        "| lora.r | 8 |",
        "| finetune.learning_rate | 0.02 |",
        "| seed | 7 |",
        f"{manifest['metrics']['train']['rows']} training cards",
        "`tiny.json`",
        "python -m medcards export",
        "peft 0.1, torch 2.0",
        "not medical advice",
    ):
        assert told in " ".join(card.text.split()), told
    assert "copy_nearest" not in card.text  # it has no scores of answers yet
    assert "learned to read cards" not in card.text

    manifest["metrics"]["train"] |= {"with_context": 3, "with_citation": 2}
    text = model_card(manifest)
    assert "[2] What is gout? An arthritis.\n\nAnswer from one of these cards and begin with its number" in text
    assert "prompt holds training cards: 3. Number of these whose answer cites one: 2." in text


def test_the_card_of_a_base_and_a_deck_from_the_hub(tuned, tmp_path):
    from huggingface_hub import ModelCard

    from medcards.report.model_card import model_card

    manifest = copy.deepcopy(read_json(tuned / "data/adapter/manifest.json"))
    manifest["llm"] |= {"model": f"hub:OWNER/NAME@{'a' * 40}", "quantize": "nf4"}
    reference = f"hub:someone/deck@{'b' * 40}"
    manifest["material"] = {"source": "hub", "reference": reference, "rows": 33955, "licence": "cc"}
    cards = {}
    for merged in (False, True):
        (tmp_path / "README.md").write_text(model_card(manifest, QA, merged))
        card = cards[merged] = ModelCard.load(tmp_path / "README.md")
        assert card.data.base_model == "OWNER/NAME" and card.data.datasets == ["someone/deck"]
        assert "33,955 cards" in card.text and "licence is cc" in card.text
        results = {result.metric_type: result for result in card.data.eval_results}
        assert results["token_f1"].metric_value == 0.377 and results["token_f1"].dataset_revision == "b" * 40
        assert {"loss", "token_f1", "novel_f1", "em"} == set(results)
        rows = [line for line in card.text.splitlines() if line.startswith("| ") and "copy_nearest" in line]
        assert "0.222 [0.172, 0.272] | 0.111 [0.061, 0.161]" in rows[0] and "0.155 [0.105, 0.205]" in rows[1]
    compile(python_block(cards[False].text), "card", "exec")
    assert f"fetches OWNER/NAME, revision {'a' * 40}" in cards[False].text and "PeftModel" not in cards[True].text
    assert [cards[merged].data.library_name for merged in (False, True)] == ["peft", "transformers"]
    assert [cards[merged].data.base_model_relation for merged in (False, True)] == ["adapter", "finetune"]


def dropped(model):
    return model.unload()


def scaled(model):
    for module in model.modules():
        if isinstance(getattr(module, "scaling", None), dict):
            module.scaling = {name: 0.95 * value for name, value in module.scaling.items()}
    return merge(model)


def not_finite(model):
    merged = merge(model)
    merged.lm_head.weight.data[0, 0] = float("nan")
    return merged


def answering_otherwise(model):
    merged = merge(model)
    merged.generation_config.eos_token_id = list(range(merged.config.vocab_size))  # after one word
    return merged


def merge(model):
    return model._unload_and_optionally_merge(progressbar=False)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("sabotage", [dropped, scaled, not_finite, answering_otherwise])
def test_a_wrong_merge_is_refused_and_leaves_nothing(tuned, tmp_path, monkeypatch, sabotage, dtype):
    from peft import LoraModel

    monkeypatch.setattr(LoraModel, "merge_and_unload", sabotage)
    with pytest.raises(InputError, match="differs from the adapter on its base") as refused:
        exported(tuned, tmp_path / "mine", dtype=dtype)
    found = re.search(r"difference (\S+) \(bound 0.001\).* adapter's (\S+) \(bound 0.95\)", str(refused.value))
    difference, agreement = map(float, found.groups())
    if sabotage is answering_otherwise:
        assert difference < 1e-4 and agreement < 0.95
    else:
        assert not difference <= 0.001
    assert list(tmp_path.iterdir()) == []


def test_bfloat16_is_compared_before_and_after_rounding(tuned, tmp_path):
    import torch
    from transformers import AutoModelForCausalLM

    exported(tuned, tmp_path / "mine", dtype="bfloat16", min_agreement=0)
    assert AutoModelForCausalLM.from_pretrained(tmp_path / "mine").dtype == torch.bfloat16
    parity = read_json(tmp_path / "mine/parity.json")
    assert parity["before_rounding"]["largest_logit_difference"] < 1e-4 < parity["largest_logit_difference"] < 2
    with pytest.raises(InputError, match="in bfloat16 .* take --dtype float32"):
        exported(tuned, tmp_path / "other", dtype="bfloat16", max_logit_difference=1e-5)
    assert [file.name for file in tmp_path.iterdir()] == ["mine"]


def test_a_folder_at_the_target_is_kept(tuned, tmp_path):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis/chapter.txt").write_text("years of work")
    for overwrite, reason in ((False, "exists"), (True, "is not an earlier export")):
        with pytest.raises(InputError, match=reason):
            exported(tuned, tmp_path / "thesis", overwrite=overwrite)
    assert (tmp_path / "thesis/chapter.txt").read_text() == "years of work"
    with pytest.raises(InputError, match="adapter is not an earlier export"):  # the pipeline's own
        exported(tuned, tuned / "data/adapter", overwrite=True)
    exported(tuned, tmp_path / "mine", questions=2)
    with pytest.raises(InputError, match="mine exists: .* --overwrite"):
        exported(tuned, tmp_path / "mine", questions=3)
    assert read_json(tmp_path / "mine/parity.json")["n"] == 2
    exported(tuned, tmp_path / "mine", questions=3, overwrite=True)
    assert read_json(tmp_path / "mine/parity.json")["n"] == 3


def test_a_missing_adapter_is_one_line_at_the_command_line(tmp_path):
    command = [sys.executable, "-m", "medcards", "export", "--data", str(tmp_path), "--to", str(tmp_path / "mine")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1 and done.stdout == ""
    assert done.stderr == f"export: {tmp_path}/adapter is missing: run `dvc repro finetune`\n"
    assert list(tmp_path.iterdir()) == []


def test_an_adapter_is_not_exported_with_options_of_a_merge(medcards, tmp_path):
    done = medcards("export", "--adapter", "--dtype", "bfloat16", "--to", tmp_path / "mine")
    assert done.returncode == 1
    assert done.stderr == "export: --dtype has no meaning with --adapter: leave one of them out\n"


def test_an_adapter_of_another_deck_is_named_before_it_is_published(tuned, tmp_path, capsys):
    from medcards.__main__ import main

    shutil.copytree(tuned / "data", tmp_path / "data")
    write_json(tmp_path / "data/cards/manifest.json", {"material": {"source": "file", "files": {"new.csv": "0"}}})
    main(["export", "--adapter", "--to", str(tmp_path / "mine"), "--data", str(tmp_path / "data")])
    *_, remark, _, publish = capsys.readouterr().out.splitlines()
    assert "another deck" in remark and publish.startswith("to publish it: ")


ADAPTER, BASE = "data/adapter", "llm"
DAMAGES = {
    "no adapter weights": (f"{ADAPTER}/adapter_model.safetensors", None, "is missing: run `dvc repro finetune`"),
    "adapter weights": (f"{ADAPTER}/adapter_model.safetensors", "cut", "model.safetensors is missing or damaged"),
    "adapter config": (f"{ADAPTER}/adapter_config.json", "{}", "adapter_config.json is missing or damaged"),
    "manifest": (f"{ADAPTER}/manifest.json", "{}", "manifest.json is damaged: run `dvc repro -f finetune`"),
    "no base": (BASE, None, "path:.*: there is no such file or folder"),
    "base weights": (f"{BASE}/model.safetensors", "cut", "path:.*: could not be read as a causal language model"),
    "base config": (f"{BASE}/config.json", "{", "path:.* could not be read as a causal language model"),
    "no cards": ("data/cards/splits.parquet", None, "is missing: run `dvc repro prepare`"),
}


@pytest.mark.parametrize("what", DAMAGES)
def test_damaged_material_is_named(tuned, tmp_path, what):
    from medcards.base.files import remove

    name, content, reason = DAMAGES[what]
    shutil.copytree(tuned / "data", tmp_path / "data")
    shutil.copytree(tuned / "llm", tmp_path / "llm")
    manifest = read_json(tmp_path / ADAPTER / "manifest.json")
    manifest["llm"]["model"] = f"path:{tmp_path}/llm"
    write_json(tmp_path / ADAPTER / "manifest.json", manifest)
    remove(tmp_path / name)
    if content:
        (tmp_path / name).write_text(content)
    with pytest.raises(InputError, match=reason):
        exported(tmp_path, tmp_path / "mine")
    assert {file.name for file in tmp_path.iterdir()} <= {"data", "llm"}


def test_scores_of_another_format_are_named(tuned):
    from medcards.report.model_card import model_card

    with pytest.raises(InputError, match="the model card cannot be written: .*qa.json"):
        model_card(read_json(tuned / "data/adapter/manifest.json"), {"lora": QA["lora"]})  # without its differences


def test_a_card_without_the_tuned_models_scores_has_its_loss_only(tuned):
    """answer.systems left it out. The card shows no score of the other systems then."""
    from medcards.report.model_card import model_card

    manifest = read_json(tuned / "data/adapter/manifest.json")
    card = model_card(manifest, {"base": QA["base"], "differences": {}})
    assert "Loss of the reference answer" in card and "Greedy answers" not in card
