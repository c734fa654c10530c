"""What the README says of a run: its table and its claims."""

from medcards.answers.comparison import BASELINES, HEADLINE, LEARNED, OPEN, answer_systems_of, best_system
from medcards.answers.open_book import QUOTED, WORDED
from medcards.report.render import change
from medcards.report.results import hnsw_recall, leaked_share, ranked_questions
from medcards.search.systems import WITH_QUESTIONS


def headlines(metrics: dict[str, dict], chosen: dict[str, dict]) -> dict[str, object]:
    """What the README's table and bullets name: intervals, or None where this run has none, and names of systems.

    Parameters
    ----------
    metrics : of the test questions, which give the figures.
    chosen : of the validation questions, which pick the best systems.
    """
    audit, ranked, qa = metrics["audit"], ranked_questions(metrics["retrieval"]), metrics["qa"]
    own = ranked["own"]
    served, asked = metrics["retrieval"]["served"]["system"], answer_systems_of(qa)
    learned, baseline, openly = (best_system(chosen["qa"], names) for names in (LEARNED, BASELINES, OPEN))
    differences = {pair: block.get(HEADLINE) for pair, block in qa["differences"].items()}
    form = "base_fewshot" if "base_fewshot" in asked else "base"
    answered = dict.fromkeys((baseline, form, "lora", learned, openly, WORDED))
    answerable = metrics["answerability"][metrics["retrieval"]["split"]]["own"]
    from_deck = metrics["open_book"].get("own", {}).get("differences", {})
    yardstick = "dense_before" if "dense_before" in own else "dense_exact"
    return {
        "leak": {kind: leaked_share(audit, kind, "questions", "bi-encoder") for kind in ("group", "random")},
        "leak_difference": leaked_share(audit, "differences", "questions", "bi-encoder"),
        "mrr": {name: own[name]["mrr@10"] for name in dict.fromkeys(("bm25", yardstick, "dense_exact", served))},
        "served": served,
        "layperson": ranked.get("layperson", {}).get(served, {}).get("mrr@10"),
        "served_layperson": ranked.get("layperson", {}).get(WITH_QUESTIONS, {}).get("mrr@10"),
        "yardstick": yardstick,
        "served_difference": own["differences"].get(f"{served}-{yardstick}", {}).get("mrr@10"),
        "difference_to_adapted": own["differences"].get(f"{served}-dense_exact", {}).get("mrr@10")
        if yardstick != "dense_exact"
        else None,
        "answerable": answerable["auroc"],
        "refusals": answerable["refusals"],
        "off_topic_refusals": answerable["off_topic_refusals"],
        "hnsw_recall": hnsw_recall(metrics),
        "hnsw_speed": metrics["cost/index"]["ratios"]["hnsw_to_exact"],
        "timed_queries": metrics["cost/index"]["exact"]["queries"],
        "sound_f1": {name: asked[name][HEADLINE] for name in answered if name in asked},
        "learned": learned,
        "baseline": baseline,
        "open": openly,
        "worded": WORDED,
        "quoted": QUOTED,
        "worded_difference": from_deck.get(f"{WORDED}-{QUOTED}", {}).get(HEADLINE),
        "validation_nll_difference": metrics["finetune"]["differences"]["tuned-base"]["validation_nll"],
        "tuning_difference": differences.get("lora-base"),
        "form_difference": differences.get("lora-base_fewshot"),
        "tuning_taught": tuning_taught(qa["differences"]),
        "baseline_difference": differences.get(f"{learned}-{baseline}"),
    }


def tuning_taught(differences: dict[str, dict]) -> str:
    """What the differences support: tuning taught the form of an answer, more than that, or nothing measurable.

    ``base_fewshot`` knows the form, so a gain over it in the headline score is more than form. A gain over ``base`` in
    token F1 alone is form.

    >>> gain, none = {"mean": 0.2, "lo": 0.1, "hi": 0.3}, {"mean": 0.0, "lo": -0.1, "hi": 0.1}
    >>> tuning_taught({"lora-base_fewshot": {"sound_f1": none}, "lora-base": {"token_f1": gain}})
    'the form of an answer, and no measurable knowledge'
    """
    beyond = differences.get("lora-base_fewshot", {}).get(HEADLINE)
    form = differences.get("lora-base", {}).get("token_f1")
    if beyond and change(beyond, "more", "", ""):
        return "more than the form of an answer"
    if form and change(form, "more", "", ""):
        return "the form of an answer, and no measurable knowledge"
    return "nothing measurable"
