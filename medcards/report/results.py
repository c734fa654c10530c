"""What the stages measured: read for the pages, and arranged for their tables."""

import platform
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import pandas as pd

from medcards.answers.comparison import BASELINES, HEADLINE, answer_systems_of, best_system
from medcards.base.files import read_json, write_json
from medcards.base.stats import Bootstrap
from medcards.report.render import p_text

STAGES = (
    "prepare",
    "embed",
    "adapt",
    "audit",
    "eda",
    "index",
    "rerank_train",
    "rerank_eval",
    "rows",
    "finetune",
    "answer",
    "quantise_eval",
    "evaluate",
)
"""The stages that measure, in the order in which data flows."""
PUBLISHED_AS = {"rerank_eval": "retrieval", "evaluate": "qa"}
"""Stages whose metrics have another name than the stage: metrics/qa.json holds the metrics of evaluate."""
NAMES = tuple(name for stage in STAGES for name in (PUBLISHED_AS.get(stage, stage), f"cost/{stage}"))
NAMES += ("quantisation", "answerability", "open_book")

RETRIEVAL_ORDER = (
    "bm25",
    "dense_before",
    "hybrid_before",
    "dense_exact",
    "hnsw",
    "hybrid",
    "hnsw_rerank",
    "hybrid_rerank",
)
NOT_OF_OWN = "with_questions"
"""The system that ranks only query sets in other words than the deck's own questions, which would find themselves."""
QUERY_SETS = ("own", "layperson", "typos", "word_drops", "lower_case")
REPORTED_PACKAGES = (
    "dvc",
    "torch",
    "transformers",
    "peft",
    "trl",
    "bitsandbytes",
    "sentence-transformers",
    "numpy",
)
HEADLINE_SYSTEMS = ("dense_exact", "hybrid_rerank")
NO_HEADLINES = (*BASELINES, "base_rag", "base_rag_open", "oracle")
"""Answering systems without an entry of their own in the summary, which has fifteen entries with all systems."""


def read_figures(data: Path, seed: int) -> dict[str, dict]:
    """Metrics and costs of every stage, from ``data``/figures.

    Parameters
    ----------
    seed : seed of the intervals of the validation loss, see :func:`loss_intervals`.

    Returns
    -------
    ``{name: metrics}`` by the name under which they are published, such as ``qa``, and ``{"cost/STAGE": cost}``.
    """
    found = {}
    for stage in STAGES:
        found[PUBLISHED_AS.get(stage, stage)] = read_json(data / "figures" / stage / "metrics.json")
        found[f"cost/{stage}"] = read_json(data / "figures" / stage / "cost.json")
    found["quantisation"] = read_json(data / "figures" / "evaluate" / "quantisation.json")
    found["answerability"] = read_json(data / "figures" / "rerank_eval" / "answerability.json")
    served = {"served_answer": read_json(data / "scores" / "served_answer.json")}
    found["open_book"] = read_json(data / "figures" / "evaluate" / "open_book.json") | served
    found["finetune"] |= loss_intervals(pd.read_parquet(data / "figures" / "finetune" / "validation.parquet"), seed)
    return found


def loss_intervals(likelihood: pd.DataFrame, seed: int) -> dict[str, dict]:
    """The validation loss of the base and of the tuned model, and the paired difference.

    Parameters
    ----------
    likelihood : table of :func:`medcards.llm.training.validation_likelihood`.

    Returns
    -------
    Intervals in nats per token: ``validation_nll.base``, ``validation_nll.tuned`` and
    ``differences.tuned-base.validation_nll``.
    """
    base, tuned, bootstrap = likelihood.base, likelihood.tuned, Bootstrap(likelihood.group, seed)
    return {
        "validation_nll": {"base": bootstrap.interval(base), "tuned": bootstrap.interval(tuned)},
        "differences": {"tuned-base": {"validation_nll": bootstrap.interval(tuned - base)}},
    }


def read_published(folder: Path) -> dict[str, dict]:
    """What :func:`read_figures` returns, from the published files, which are in git."""
    return {name: read_json(folder / f"{name}.json") for name in NAMES}


def publish_metrics(metrics: dict[str, dict], folder: Path) -> None:
    """Write metrics, costs and the summary as JSON files into a folder."""
    for name, found in metrics.items():
        write_json(folder / f"{name}.json", found)
    write_json(folder / "summary.json", summarise_run(metrics))


def summarise_run(metrics: dict[str, dict]) -> dict[str, float]:
    """The figures that a reader compares first, as a flat dict of fifteen entries or fewer."""
    ranked, answered = ranked_questions(metrics["retrieval"])["own"], metrics["qa"]
    summary = {"cards": metrics["prepare"]["cards"]}
    summary["leaked_questions@0.9"] = leaked_share(metrics["audit"], "group", "questions", "bi-encoder")["mean"]
    if "left_out" not in metrics["eda"]["topics"]:
        summary["topics_c_v"] = best_topics(metrics["eda"])["c_v"]["mean"]
    summary["hnsw_recall@10"] = hnsw_recall(metrics)["mean"]
    summary |= {f"mrr@10_{name}": ranked[name]["mrr@10"]["mean"] for name in HEADLINE_SYSTEMS if name in ranked}
    answerable = metrics["answerability"][metrics["retrieval"]["split"]]["own"]
    summary["answerable_auroc"] = answerable["auroc"]["mean"]
    summary["validation_nll_tuned"] = metrics["finetune"]["validation_nll"]["tuned"]["mean"]
    if baseline := best_system(answered, BASELINES):
        summary[f"{HEADLINE}_best_baseline"] = answered[baseline][HEADLINE]["mean"]
    for name, block in answer_systems_of(answered).items():
        if name not in NO_HEADLINES:
            summary[f"{HEADLINE}_{name}"] = block[HEADLINE]["mean"]
    return summary


def ranked_questions(retrieval: dict) -> dict[str, dict]:
    """The block of metrics/retrieval.json of the split that ``answer.split`` names: its query sets by name."""
    return retrieval[retrieval["split"]]


def hnsw_recall(metrics: dict[str, dict]) -> dict:
    """Recall@10 of the served index on the questions of the split that ``answer.split`` names."""
    served = metrics["index"]["served"]
    return (served["test"] if metrics["retrieval"]["split"] == "test" else served)["recall@10"]


def leaked_share(audit: dict[str, dict], split: str, side: str, encoder: str) -> dict:
    """Share of test cards whose nearest training card has a cosine similarity of 0.9 or more.

    Parameters
    ----------
    audit : metrics/audit.json, or its block ``dealt_again``.
    split : ``group``, ``random``, or ``differences`` for group minus random.
    side : ``questions`` or ``answers``.
    encoder : ``bi-encoder`` or ``characters``.
    """
    block = audit[split]
    return (block["group-random"] if split == "differences" else block)[side][encoder]["leaked@0.9"]


def leakage_rows(audit: dict[str, dict]) -> dict[str, dict]:
    """Rows of the table on leakage: the split as it is, and the mean over splits drawn again."""
    splits = {"group split": "group", "random split": "random", "difference": "differences"}
    again = audit["dealt_again"]
    blocks = [
        (audit, "bi-encoder", ""),
        (audit, "characters", ""),
        (again, "bi-encoder", f", {again['deals']} splits"),
    ]
    return {
        f"{side}, {encoder}{note}": {
            column: leaked_share(block, split, side, encoder) for column, split in splits.items()
        }
        for block, encoder, note in blocks
        for side in ("questions", "answers")
    }


def retrieval_systems_of(block: dict) -> dict[str, dict]:
    """The systems of a block of metrics/retrieval.json in the order of the tables, other systems last."""
    known = [name for name in RETRIEVAL_ORDER if name in block]
    return {name: block[name] for name in [*known, *sorted(block.keys() - {*known, "differences"})]}


def query_sets_of(ranked: dict) -> list[str]:
    """The query sets of a split of metrics/retrieval.json in the order of the tables, other sets last."""
    known = [name for name in QUERY_SETS if name in ranked]
    return [*known, *sorted(ranked.keys() - {*known})]


def query_set_rows(ranked: dict[str, dict]) -> dict[str, dict]:
    """Rows of the table of MRR@10 by query set: the systems that ranked every query set, and :data:`NOT_OF_OWN`."""
    blocks = {name: retrieval_systems_of(ranked[name]) for name in query_sets_of(ranked)}
    shown = [system for system in blocks["own"] if all(system in block for block in blocks.values())]
    shown += [NOT_OF_OWN] if any(NOT_OF_OWN in block for block in blocks.values()) else []
    return {
        system: {name: block[system]["mrr@10"] for name, block in blocks.items() if system in block} for system in shown
    }


def questions_ranked(block: dict[str, dict]) -> int:
    """Number of questions that the systems of a block of metrics/retrieval.json were scored on."""
    return next(iter(retrieval_systems_of(block).values()))["mrr@10"]["n"]


def difference_rows(differences: dict[str, dict], scores: Sequence[str]) -> dict[str, dict]:
    """Rows of a table of paired differences: interval, corrected p and detectable difference of each score.

    Parameters
    ----------
    differences : see :func:`medcards.base.stats.paired_differences`.
    """
    rows: dict[str, dict] = {}
    for pair, block in differences.items():
        rows[pair] = {}
        for score in (score for score in scores if score in block):
            values = block[score], p_text(block[score]), f"{block[score]['detectable']:.3f}"
            rows[pair] |= dict(zip(difference_columns([score]), values, strict=True))
    return rows


def difference_columns(scores: Sequence[str]) -> list[str]:
    """The columns of :func:`difference_rows`."""
    return [f"{score}{of}" for score in scores for of in ("", " p", " detectable")]


def best_topics(eda: dict) -> dict:
    """The scores of the most coherent topic model."""
    chosen = eda["topics"]["best"]
    return eda["topics"]["grid"][chosen["method"]][str(chosen["topics"])]


def topic_rows(eda: dict) -> dict[str, dict]:
    """Rows of the table of topic models, with as many topics as the most coherent model has; none without topics."""
    if "left_out" in eda["topics"]:
        return {}
    number, agreement = str(eda["topics"]["best"]["topics"]), eda.get("agreement_with_branches", {})
    rows = {}
    for method, grid in eda["topics"]["grid"].items():
        rows[method] = dict(grid[number])
        if by_seed := rows[method].pop("c_v_by_seed", None):  # where there are several
            rows[method]["c_v by seed"] = " ".join(f"{value:.3f}" for value in by_seed)
        if method in agreement:
            rows[method]["agreement with branches"] = agreement[method]
    return rows


def cost_rows(metrics: dict[str, dict]) -> dict[str, dict]:
    """Rows of the table of costs: seconds and peak memory of each stage, on the machine that ran it."""
    costs = {stage: metrics[f"cost/{stage}"] for stage in STAGES}
    return {
        stage: {"seconds": f"{cost['seconds']:.0f}", "peak memory (MB)": f"{cost['peak_memory_mb']:,}"}
        for stage, cost in costs.items()
    }


def machines(metrics: dict[str, dict]) -> str:
    """The machine that the stages ran on, as a sentence; one sentence per machine where there are several."""
    ran: dict[str, dict[str, list[str]]] = {}
    for stage in STAGES:
        found = metrics[f"cost/{stage}"]["machine"]
        name = f"{found['processor']}, {found['cores']} cores, {found['memory_gb']} GB of memory"
        ran.setdefault(name, {}).setdefault(found["device"], []).append(stage)
    sentences = []
    for name, devices in ran.items():
        stages = "All stages" if len(ran) == 1 else ", ".join(stage for of in devices.values() for stage in of)
        on = ", ".join(devices) if len(devices) == 1 else "; ".join(f"{on}: {', '.join(devices[on])}" for on in devices)
        sentences.append(f"{stages} ran on {name} ({on}).")
    return " ".join(sentences)


def versions(engine: str) -> str:
    """The versions of Python and of the packages that the figures depend on; ``engine`` is that of the index."""
    return ", ".join(
        [f"Python {platform.python_version()}", *(f"{name} {version(name)}" for name in (*REPORTED_PACKAGES, engine))]
    )
