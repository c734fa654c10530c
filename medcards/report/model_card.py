"""The model card of an adapter, or of the plain model that the adapter is merged into."""

import json
from pathlib import Path

import pandas as pd
from huggingface_hub import EvalResult, ModelCardData

from medcards import InputError
from medcards.base.references import parse
from medcards.llm.prompts import prompt
from medcards.report.render import render
from medcards.report.results import loss_intervals

CARD_SCORES = {"token_f1": "token F1", "novel_f1": "novel F1", "em": "exact match"}
"""The scores that the card shows, with their labels."""
CARD_SYSTEMS = {
    "echo": "echo (repeats the question)",
    "copy_nearest": "copy_nearest (answer of the nearest training question)",
    "base": "base",
    "lora": "this model",
}
"""The answering systems that the card shows, with their labels."""


def model_card(manifest: dict, qa: dict | None = None, merged: bool = False) -> str:
    """The card as Markdown with a metadata block (library: huggingface_hub). Equal input gives equal text.

    Parameters
    ----------
    manifest : the adapter's, as the finetune stage writes it.
    qa : metrics/qa.json of this adapter. Without it, or without the system lora in it, the card shows the validation
        loss only.
    merged : whether the card is for the adapter merged into its base.

    Raises
    ------
    InputError : the manifest or the scores lack a value that the card shows.
    """
    try:
        return render("model_card.md.jinja", **_contents(manifest, qa if qa and "lora" in qa else None, merged))
    except (KeyError, TypeError, ValueError, AttributeError, InputError) as error:
        raise InputError(
            f"the model card cannot be written: the adapter's manifest or qa.json has another format "
            f"({type(error).__name__}: {error}); run `dvc repro`"
        ) from error


def _contents(manifest: dict, qa: dict | None, merged: bool) -> dict[str, object]:
    """The values that the template names."""
    llm, metrics, material = manifest["llm"], manifest["metrics"], manifest["material"]
    loss = loss_intervals(pd.DataFrame(manifest["validation"]), manifest["seed"])
    nll = loss["validation_nll"]
    base = parse(llm["model"])
    hub = base if base.kind == "hub" else None
    name = base.name.rpartition("/")[2] if hub else Path(base.path).name.removesuffix(".gguf")
    card_data = ModelCardData(
        base_model=base.name if hub else None,
        datasets=[parse(material["reference"]).name] if material["source"] == "hub" else None,
        eval_results=_eval_results(nll["tuned"], material, qa),
        language="en",
        library_name="transformers" if merged else "peft",
        license="unknown",  # the base and the data each have one, see the text
        model_name=f"{name}-medcards",
        pipeline_tag="text-generation",
        tags=["medical", "question-answering", "medcards", "lora", *(["qlora"] if llm["quantize"] != "none" else [])],
        **({"base_model_relation": "finetune" if merged else "adapter"} if hub else {}),
    )
    losses = {"base": nll["base"], "this model": nll["tuned"]}
    losses["paired difference"] = loss["differences"]["tuned-base"]["validation_nll"]
    (asked,) = prompt("What is gout?", "", ["What is a cyst? A sac that holds fluid.", "What is gout? An arthritis."])
    return {
        "card_data": card_data.to_yaml().rstrip("\n"),
        "name": name,
        "merged": merged,
        "hub": hub,
        "own_base": base.kind == "path",
        "base": f"`{name}`, a folder of the user's own" if base.kind == "path" else f"`{llm['model']}`",
        "quantize": llm["quantize"],
        "system_prompt": llm["system_prompt"],
        "messages": json.dumps(prompt("What is gout?", llm["system_prompt"]), ensure_ascii=False),
        "with_cards": asked["content"],
        "material": material,
        "train": metrics["train"],
        "finetune": manifest["finetune"],
        "metrics": metrics,
        "nll": nll,
        "losses": {of: {"loss": interval} for of, interval in losses.items()},
        "settings": {parameter: {"value": value} for parameter, value in _settings(manifest).items()},
        "packages": ", ".join(f"{package} {version}" for package, version in sorted(manifest["packages"].items())),
        **_scores(qa),
    }


def _settings(manifest: dict) -> dict[str, str]:
    """The parameters that repeat a run, except how it was launched."""
    settings = {"seed": manifest["seed"], "llm.quantize": manifest["llm"]["quantize"]}
    for block in ("lora", "finetune"):
        settings |= {f"{block}.{key}": value for key, value in sorted(manifest[block].items()) if key != "launch"}
    trained = manifest["metrics"]
    settings["trainable parameters"] = f"{trained['trainable_parameters']:,} ({trained['trainable_share']:.2%})"
    return {key: ", ".join(value) if isinstance(value, list) else str(value) for key, value in settings.items()}


def _scores(qa: dict | None) -> dict[str, object]:
    """The scores of :data:`CARD_SYSTEMS`, and the paired differences between this model and the others."""
    if qa is None:
        return {"qa": {}, "systems": {}, "differences": {}, "scores": [], "asked": {}}

    def labelled(block: dict) -> dict[str, dict]:
        return {label: block[score] for score, label in CARD_SCORES.items()}

    pairs = {f"lora-{system}": system for system in CARD_SYSTEMS}
    return {
        "qa": qa,
        "scores": list(CARD_SCORES.values()),
        "asked": {score: qa["lora"][score]["n"] for score in CARD_SCORES},
        "systems": {label: labelled(qa[system]) for system, label in CARD_SYSTEMS.items() if system in qa},
        "differences": {
            f"this model - {pairs[pair]}": labelled(block) for pair, block in qa["differences"].items() if pair in pairs
        },
    }


def _eval_results(loss: dict, material: dict, qa: dict | None) -> list[EvalResult]:
    """The means of this model's loss and scores in the hub's format, which has no intervals."""
    means = [("validation", "loss", "NLL per token", loss)]
    means += [(qa["split"], score, label, qa["lora"][score]) for score, label in CARD_SCORES.items()] if qa else []
    deck = parse(material["reference"]) if material["source"] == "hub" else None
    return [
        EvalResult(
            task_type="text-generation",
            dataset_name=deck.name if deck else f"medical flashcards ({material['source']})",
            dataset_type=deck.name if deck else "medcards",
            dataset_revision=deck.revision if deck else None,
            dataset_split=split,
            metric_type=score,
            metric_name=label,
            metric_value=float(f"{interval['mean']:.6g}"),
        )
        for split, score, label, interval in means
    ]
