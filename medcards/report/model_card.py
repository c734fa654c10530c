"""The model card of an adapter, and of the plain model that it is merged into."""

import json
from pathlib import Path

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from medcards.base.references import parse

SCORES = {"token_f1": "token F1", "novel_f1": "novel F1", "em": "exact match"}
SYSTEMS = {
    "echo": "echo (repeats the question)",
    "copy_nearest": "copy_nearest (answer of the nearest training question)",
    "base": "base",
    "lora": "this model",
}

TEMPLATE = """---
{{ card_data }}
---

# {{ name }}, tuned on medical flashcards

Written from the manifest of the training run; do not edit. **This is not medical advice, nor a source of it.**

{% if merged -%}
A plain model: a LoRA adapter, merged into its base in full precision. `parity.json` says how far it is from the
adapter on its base.
{%- else -%}
A LoRA adapter.
{%- endif %} Its base is {{ base }}
{%- if quantize == "none" %}, not quantised{% else %}, quantised to {{ quantize }} while it was tuned{% endif %}.

## How to load

```python
{{ loading }}
messages = {{ messages }}
inputs = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_tensors="pt", return_dict=True)
made = model.generate(**inputs, max_new_tokens=48, do_sample=False)
print(tokenizer.decode(made[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True))
```
{% if not (merged or on_hub) %}
The base is on no hub; `python -m medcards.commands.export` makes a plain folder that loads with transformers alone.
{% endif %}
The messages are those of the training: {{ "the system prompt above" if system_prompt else "no system prompt" }}, and \
the question as it is. The template that turns them into text is in `chat_template.jinja`.

## Data

{{ data }} The base model's licence holds as well.

Trained on {{ "{:,}".format(train.rows) }} training cards, {{ "{:,}".format(train.tokens) }} tokens. Longer than \
{{ finetune.max_length }} tokens: {{ train.answers_cut }} lost the end of their answer, {{ train.left_out }} were left \
out; {{ train.with_context }} came with other cards to read first. The loss counts the answer only. The weights are \
those of optimizer step {{ metrics.best_step }} of {{ metrics.steps }}, where the loss on \
{{ metrics.validation.rows }} validation cards was lowest.

{{ settings }}

## Scores

Mean and 95% interval (bootstrap over groups of near-duplicate cards). No card of these splits was trained on, but
the weights are those with the lowest validation loss, so that one flatters.
{%- if merged %} All was measured before the merge, of the adapter on its base as it was tuned.{% endif %}

Loss of the reference answer (nats per token) on {{ nll.tuned.n }} validation cards:

{{ losses }}
{% if qa %}
Greedy answers to {{ qa.lora.token_f1.n }} test questions (novel F1: {{ qa.lora.novel_f1.n }}).
{%- if qa.echo or qa.copy_nearest %} echo and copy_nearest know nothing of the card, so what they score is \
free.{% endif %}

{{ answers }}

{{ differences }}
{% endif %}
## Limits

- Not medical advice: nothing here was checked by a physician.
- Little data, one deck, one seed: another sample of cards gives other figures.
- Answers are generated and may be wrong, also where they sound right and are well formed.
- Token F1 counts shared words. It does not see a missing "not" or a wrong number, marks a right answer in other words
  down, and rewards repeating the question. Novel F1 leaves the question's words out, and still only counts words.
- English only; questions unlike the deck's were not tried.

## Packages

{{ packages }}
"""

LOAD_MERGED = """from transformers import AutoModelForCausalLM, AutoTokenizer

folder = "."  # the one that this card lies in
model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)"""
LOAD_ON_HUB = """from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

folder = "."  # the one that this card lies in
base = AutoModelForCausalLM.from_pretrained("{name}", revision="{revision}")
model, tokenizer = PeftModel.from_pretrained(base, folder), AutoTokenizer.from_pretrained(folder)"""
LOAD_ADAPTER = """from peft import PeftModel
from medcards.base.files import read_json
from medcards.llm.loading import LlmParams, load_llm

folder = "data/adapter"  # run this in the repository's root
base, tokenizer = load_llm(LlmParams(**read_json(f"{folder}/manifest.json")["llm"]))
model = PeftModel.from_pretrained(base, folder)"""


def adapter_card(manifest: dict, qa: dict | None = None, merged: bool = False) -> str:
    """The card as Markdown with a metadata block (library: huggingface_hub); equal input gives equal text.

    Parameters
    ----------
    manifest : the adapter's, as the finetune stage writes it.
    qa : what the evaluate stage wrote of this adapter; without it the card has the validation loss only.
    merged : whether the card is for the adapter merged into its base.
    """
    llm, metrics, material = manifest["llm"], manifest["metrics"], manifest["material"]
    qa = qa if qa and "lora" in qa else None  # it was not asked
    base = parse(llm["model"])
    name = base.name.rpartition("/")[2] if base.kind == "hub" else Path(base.path).name.removesuffix(".gguf")
    tags = ["medical", "question-answering", "medcards", "lora", *(["qlora"] if llm["quantize"] != "none" else [])]
    relation = {"base_model_relation": "finetune" if merged else "adapter"}
    card_data = ModelCardData(
        base_model=base.name if base.kind == "hub" else None,
        datasets=[parse(material["reference"]).name] if material["source"] == "hub" else None,
        eval_results=_eval_results(metrics, material, qa),
        language="en",
        library_name="transformers" if merged else "peft",
        license="unknown",  # base and data each have theirs, see the text
        model_name=f"{name}-medcards",
        pipeline_tag="text-generation",
        tags=tags,
        **(relation if base.kind == "hub" else {}),
    )
    nll = metrics["validation_nll"]
    losses = {"base": nll["base"], "this model": nll["tuned"]}
    losses["paired difference"] = metrics["differences"]["tuned-base"]["validation_nll"]
    load = LOAD_MERGED if merged else LOAD_ON_HUB if base.kind == "hub" else LOAD_ADAPTER
    system = [{"role": "system", "content": llm["system_prompt"]}] if llm["system_prompt"] else []
    card = ModelCard.from_template(
        card_data,
        template_str=TEMPLATE,
        name=name,
        merged=merged,
        on_hub=base.kind == "hub",
        base=f"`{name}`, a folder of the user's own" if base.kind == "path" else f"`{llm['model']}`",
        quantize=llm["quantize"],
        system_prompt=llm["system_prompt"],
        loading=load.format(name=base.name, revision=base.revision) if load is LOAD_ON_HUB else load,
        messages=json.dumps([*system, {"role": "user", "content": "What is gout?"}], ensure_ascii=False),
        data=_data(material),
        train=metrics["train"],
        finetune=manifest["finetune"],
        metrics=metrics,
        nll=nll,
        losses=_table(["", "loss"], [[of, _cell(loss)] for of, loss in losses.items()]),
        settings=_settings(manifest),
        qa=qa,
        packages=", ".join(f"{package} {version}" for package, version in sorted(manifest["packages"].items())),
        **(_answers(qa) if qa else {}),
    )
    return str(card).rstrip("\n") + "\n"


def _settings(manifest: dict) -> str:
    """What a run is repeated with: seed, quantisation, and the blocks lora and finetune but for how it was launched."""
    settings = {"seed": manifest["seed"], "llm.quantize": manifest["llm"]["quantize"]}
    for block in ("lora", "finetune"):
        settings |= {f"{block}.{key}": value for key, value in sorted(manifest[block].items()) if key != "launch"}
    trained = manifest["metrics"]
    settings["trainable parameters"] = f"{trained['trainable_parameters']:,} ({trained['trainable_share']:.2%})"
    values = {key: ", ".join(value) if isinstance(value, list) else str(value) for key, value in settings.items()}
    return _table(["parameter", "value"], [[key, value] for key, value in values.items()])


def _answers(qa: dict) -> dict[str, str]:
    """The tables of scores: this model between what knows nothing and the base, and its paired differences."""
    rows = {label: qa[system] for system, label in SYSTEMS.items() if system in qa}
    pairs = [pair for pair in qa["differences"] if pair.startswith("lora-") and pair.removeprefix("lora-") in SYSTEMS]
    differences = {f"this model - {pair.removeprefix('lora-')}": qa["differences"][pair] for pair in pairs}
    return {"answers": _scores("system", rows), "differences": _scores("paired difference", differences)}


def _scores(head: str, rows: dict[str, dict]) -> str:
    return _table(
        [head, *SCORES.values()], [[name, *(_cell(row[score]) for score in SCORES)] for name, row in rows.items()]
    )


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] + ["---:"] * (len(head) - 1), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _data(material: dict) -> str:
    """Where the cards come from and under which licence, in sentences."""
    if material["source"] == "ontology":
        return (
            f"Cards derived from the Human Phenotype Ontology, release `{material['release']}`, read from "
            f"`{material['reference']}`. Their licence is the ontology's own, <https://hpo.jax.org/app/license>."
        )
    if material["source"] == "hub":
        licence = f"licence {material['licence']}" if material["licence"] else "its card states no licence"
        return f"The {material['rows']:,} cards of `{material['reference']}`; {licence}."
    files = ", ".join(f"`{file}` (sha256 `{sha256}`)" for file, sha256 in sorted(material["files"].items()))
    return f"{material['rows']:,} cards in files of the user's own, whose licence this project does not know: {files}."


def _eval_results(metrics: dict, material: dict, qa: dict | None) -> list[EvalResult]:
    """The means of this model as the hub shows them; it has no room for intervals, which the text gives."""
    means = [("validation", "loss", "NLL per token", metrics["validation_nll"]["tuned"])]
    means += [("test", score, label, qa["lora"][score]) for score, label in SCORES.items()] if qa else []
    on_hub = parse(material["reference"]) if material["source"] == "hub" else None
    return [
        EvalResult(
            task_type="text-generation",
            dataset_name=on_hub.name if on_hub else f"medical flashcards ({material['source']})",
            dataset_type=on_hub.name if on_hub else "medcards",
            dataset_revision=on_hub.revision if on_hub else None,
            dataset_split=split,
            metric_type=score,
            metric_name=label,
            metric_value=float(f"{interval['mean']:.6g}"),
        )
        for split, score, label, interval in means
    ]


def _cell(interval: dict) -> str:
    return f"{interval['mean']:.3f} [{interval['lo']:.3f}, {interval['hi']:.3f}]"
