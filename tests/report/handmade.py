"""A run's outputs made by hand, small enough to check every figure of a report by eye."""

import json
import shutil
from pathlib import Path

import pandas as pd

from medcards.base.files import write_csv, write_json

ROOT = Path(__file__).parents[2]
SETTING = {"m": 8, "ef_construction": 100, "ef_search": 10}
CURVES = {"train_loss": 2.5, "validation_loss": 2.0, "learning_rate": 1e-4, "gradient_norm": 1.0}


def interval(mean: float, half: float = 0.1, n: int = 4, **also: float) -> dict:
    return {"mean": mean, "lo": mean - half, "hi": mean + half, "n": n} | also


def spread(mean: float, half: float = 0.1, n: int = 4) -> dict:
    return {"mean": mean, "smallest": mean - half, "largest": mean + half, "n": n}


def prepare_metrics(material: dict) -> dict:
    split = {"cards": 1000, "groups": 500, "own": 900, "answer_characters_quartiles": [1.0, 2.0, 3.0]}
    duplicates = {
        "cards_with_equal_question": 3,
        "cards_with_equal_answer": 4,
        "cards_with_equal_answer_in_another_group": 0,
        "test_cards_with_equal_answer_in_training": 0,
        "near_duplicate_pairs": 1234,
        "near_duplicate_pairs_across_splits": 0,
        "near_duplicate_threshold": 0.5,
    }
    return {
        "cards": 3000,
        "material": material,
        "cleaning": {"rows_read": 3001, "dropped_duplicate": 1, "kept": 3000},
        "duplicates": duplicates,
        "groups": {"count": 1500, "largest": 9, "largest_share": 0.003},
        "splits": dict.fromkeys(("train", "validation", "test"), split),
    }


def audit_metrics() -> dict:
    def block(share: float) -> dict:
        sides = {name: {"leaked@0.9": interval(share)} for name in ("bi-encoder", "characters")}
        return {"questions": sides, "answers": sides}

    splits = {"group": block(0.2), "random": block(0.5), "differences": {"group-random": block(-0.3)}}
    return splits | {"dealt_again": splits | {"deals": 10}}


def eda_metrics() -> dict:
    text = {"words": {"quartiles": [1.0, 7.5, 9.0]}, "zipf_exponent": 1.0, "heaps_exponent": 0.5}
    topics = {
        "c_v": spread(0.6),
        "c_v_by_seed": [0.6, 0.5, 0.7],
        "npmi": spread(0.0),
        "diversity": 0.9,
    }
    grid = {name: {"2": topics} for name in ("lda", "nmf")}
    scores = {"silhouette": interval(0.3), "stability": spread(0.4), "davies_bouldin": spread(0.5, n=8)}
    return {
        "questions": text,
        "answers": text,
        "kmeans": {"k": 2, "grid": {"10": scores, "2": scores}},
        "topics": {"best": {"method": "nmf", "topics": 2}, "grid": grid, "gain_c_v": {"lda": spread(0.1, 0.05, n=3)}},
        "agreement_with_branches": {"kmeans": spread(0.7, n=100) | {"on_all_cards": 0.69}, "nmf": spread(0.2, n=100)},
    }


def retrieval_metrics() -> dict:
    measures = ("mrr@10", "ndcg@10", "recall@1", "recall@5", "recall@10", "recall@50")
    own = {
        system: {measure: interval(mean) for measure in measures}
        for system, mean in (("hybrid", 0.7), ("bm25", 0.4), ("dense_exact", 0.5), ("another", 0.1))
    }
    tested = {"p": 2 / 20_001, "p_holm": 7 * 2 / 20_001, "detectable": 0.111}
    own["differences"] = {"hybrid-dense_exact": {measure: interval(0.2, **tested) for measure in measures}}
    served = {"system": "hybrid", "bm25_weight": 0.25, "rerank_weights": [], "candidates": 20}
    served |= {"spelling": True, "questions": False}
    return {"corpus": 2500, "served": served, "split": "validation", "validation": {"own": own}}


def qa_metrics() -> dict:
    names = ("token_f1", "idf_f1", "novel_f1", "similarity", "rouge_l", "chrf", "em", "echoed", "contradiction")
    means = {"echo": 0.0, "copy_nearest": 0.3, "base": 0.1, "lora": 0.25, "search_open": 0.6, "parrot": 0.05}
    qa = {system: {name: interval(mean) for name in (*names, "sound_f1")} for system, mean in means.items()}
    qa["parrot"]["echoed"] = interval(0.95)
    tested = {"p": 0.01, "p_holm": 0.02, "detectable": 0.123}
    pairs = {"lora-base": 0.15, "lora-copy_nearest": -0.05}
    qa["differences"] = {
        pair: {name: interval(mean, **tested) for name in (*names, "sound_f1")} for pair, mean in pairs.items()
    }
    cut = {"base": {name: interval(0.2) for name in (*names, "sound_f1")}}
    return qa | {
        "split": "validation",
        "far_from_training": {},
        "whole_sentences": cut,
        "agreement": {
            "all": {score: interval(tau) for score, tau in (("em", 0.1), ("sound_f1", 0.6), ("token_f1", 0.5))},
            "without_open_book": {score: interval(tau) for score, tau in (("sound_f1", 0.2), ("token_f1", 0.3))},
        },
    }


def finetune_metrics() -> dict:
    return {
        "model": "path:models/llm/a",
        "device": "cpu",
        "dtype": "float32",
        "quantize": "none",
        "base_bytes": 5e8,
        "trainable_parameters": 1000,
        "trainable_share": 0.01,
        "steps": 4,
        "best_step": 2,
        "train": {"rows": 16, "tokens": 1600, "answers_cut": 0, "with_context": 0, "with_citation": 0},
        "curve": {"train": {"first": 3.0, "last": 2.5}},
    }


def answerability_metrics() -> dict:
    means = {
        "auroc": 0.9,
        "risk_area": 0.2,
        "coverage_at_risk": 0.45,
        "refused_at_share": 0.75,
        "calibration_error": 0.05,
    }
    measured = {name: interval(mean, 0.05, n=8) for name, mean in means.items()}
    measured |= {"false_refusals": interval(0.04, 0.01), "refusals": interval(0.6)}
    measured |= {"served_coverage": interval(0.68), "served_risk": interval(0.45)}
    typos = measured | {"auroc": interval(0.8, 0.05, n=8)}
    own = measured | {"off_topic_refusals": interval(0.95, 0.05)}
    model = {"features": ["similarity"], "means": [0.5], "scales": [0.1], "weights": [2.0], "intercept": 0.1}
    model |= {"usual_similarity": 0.4}
    return {"model": model | {"refuse_below": 0.17}, "validation": {"typos": typos, "own": own}}


def open_book_metrics() -> dict:
    scores, refused = ("sound_f1", "served_f1", "cites_relevant", "grounding"), {"abstains": interval(0.1)}
    refused["abstains_hidden"] = interval(0.6)
    quoted = {name: interval(0.8) for name in scores} | refused
    worded = {name: interval(0.7) for name in scores} | refused | {"citation_precision": interval(0.85)}
    tested = {"p": 0.01, "p_holm": 0.03, "detectable": 0.222}
    differences = {"lora_rag_open-search_open": {"sound_f1": interval(-0.1, 0.05, **tested)}}
    block = {"search_open": quoted, "lora_rag_open": worded, "differences": differences}
    return {"typos": block, "own": block}


SERVED_ANSWER = {"system": "search_open", "difference": interval(-0.1, 0.05, n=8)}
METRICS = {
    "prepare": prepare_metrics({"source": "file", "rows": 3001, "files": {"decks/a.csv": "00ff"}}),
    "embed": {
        "model": "path:models/encoder/a",
        "answers_cut": 12,
        "max_tokens": 256,
        "unknown_tokens": {"answers": 0.0},
    },
    "adapt": {"model": "path:models/encoder/a", "trained": True, "projection": {"questions": 6000}},
    "audit": audit_metrics(),
    "eda": eda_metrics(),
    "index": {
        "engine": "hnswlib",
        "served": SETTING
        | {"target_recall": 0.9, "recall@10": interval(0.9), "test": {"recall@10": interval(0.8), "recall@10_p5": 0.5}},
    },
    "rerank_train": {"model": "none", "trained": False, "steps": 0},
    "rerank_eval": retrieval_metrics(),
    "rows": {"train": 16, "validation": 4, "with_context": 0, "with_right_card": 0},
    "finetune": finetune_metrics(),
    "answer": {"questions": 4, "systems": 6},
    "evaluate": qa_metrics(),
    "quantise_eval": {"base_bytes": {}},
}
MACHINE = {"processor": "A Processor", "cores": 2, "memory_gb": 16, "device": "cpu"}
COSTS = {
    "index": {
        "exact": {"queries": 200, "queries_per_second": 100.0},
        "ratios": {"hnsw_to_exact": 12.5, "hnsw_to_exact_in_batch": 2.0},
    },
    "rerank_eval": {"latency": {"bm25": {"p50_ms": 1.0}, "dense_exact": {"p50_ms": 10.0}}},
}
TABLES = {
    "audit/similarity": {"similarity": [0, 1]}
    | {
        f"{side} {encoder} {split}": [1, 0.5]
        for side in ("questions", "answers")
        for encoder in ("bi-encoder", "characters")
        for split in ("group", "random")
    },
    "audit/closest": {"side": ["question"], "similarity": [0.9], "test": ["a"], "nearest_training": ["b"]},
    "eda/lengths": {
        "text": ["questions", "answers"] * 2,
        "unit": ["model tokens"] * 2 + ["words"] * 2,
        "length": [3, 4, 5, 6],
        "texts": [2, 1, 1, 2],
    },
    "eda/words": {
        "x": [1, 2] * 4,
        "y": [2, 3] * 4,
        "law": ["zipf"] * 4 + ["heaps"] * 4,
        "text": ["questions"] * 2 + ["answers"] * 2 + ["questions"] * 2 + ["answers"] * 2,
    },
    "eda/terms": {"text": ["null", "gout"], "texts": [2, 1], "share": [0.5, 0.25], "of": ["terms of answers"] * 2},
    "eda/first_words": {"text": ["what is"], "questions": [4], "share": [1.0], "of": ["first two words of questions"]},
    "eda/cluster_names": {
        "cluster": [0, 1],
        "size": [2, 2],
        "terms": ["gout joint pain acid", "cyst sac"],
        "central_questions": ["a", "b"],
    },
    "eda/topic_models": {
        "method": ["lda", "nmf"],
        "topics": [2, 2],
        "seed": [0, 0],
        "c_v": [0.5, 0.6],
        "npmi": [0, 0],
        "diversity": [1, 1],
    },
    "eda/coherence": {"topics": [2], "lda": [0.5], "nmf": [0.6]},
    "eda/topics": {"topic": [0], "c_v": [0.6], "npmi": [0.0], "cards": [4], "terms": ["gout joint pain"]},
    "eda/map": {"card_id": ["1111", "2222"], "cluster": [0, 1], "topic": [0, 0], "x": [0.5, 1.5], "y": [1.0, 2.0]},
    "index/grid": {name: [value, value] for name, value in SETTING.items()}
    | {"m": [8, 16], "mean": [0.9, 0.95], "lo": [0.8, 0.9], "hi": [1.0, 1.0], "n": [4, 4], "p5": [0.5, 0.5]},
    "index/timed": {name: [value] for name, value in SETTING.items()} | {"mean": [0.9], "queries_per_second": [1250.0]},
    "index/frontier": {"mean": [0.9], "queries_per_second": [1250.0]},
    "rerank_train/loss": {"step": [], "loss": [], "smoothed": []},
    "rerank_eval/recall_at_k": {"k": [1, 10], "bm25": [0.4, 0.6], "hybrid": [0.5, 0.7]},
    "rerank_eval/risk_coverage": {
        "coverage": [0.5, 1.0] * 2,
        "mean": [0.1, 0.6, 0.05, 0.5],
        "lo": [0.0, 0.5, 0.0, 0.4],
        "hi": [0.2, 0.7, 0.1, 0.6],
        "n": [8] * 4,
        "query_set": ["typos"] * 2 + ["own"] * 2,
    },
    "rerank_eval/reliability": {
        "bin": [1, 8, 2],
        "probability": [0.15, 0.85, 0.25],
        "mean": [0.0, 1.0, 0.5],
        "lo": [0.0, 1.0, 0.0],
        "hi": [0.0, 1.0, 1.0],
        "n": [4, 4, 8],
        "query_set": ["own", "own", "typos"],
    },
    "evaluate/by_similarity": {
        "bin": [0, 0],
        "similarity": [0.5, 0.5],
        "system": ["lora"] * 2,
        "score": ["token_f1", "sound_f1"],
        "mean": [0.2, 0.1],
        "lo": [0.1, 0.0],
        "hi": [0.3, 0.2],
        "n": [4, 4],
    },
}
ANSWERS = pd.DataFrame(
    {
        "card_id": ["1111", "2222", "3333", "4444"],
        "question": ["What is gout?", "What is | pain?", "What is a cyst?", "What is a sac?"],
        "reference": ["Joint pain.", "A feeling.", "A sac.", "A bag."],
        "answers": [{"lora": "<b>bold</b> *text*"}, {"lora": ""}, {"lora": "A sac."}, {"lora": "A bag."}],
        "read": [{"lora_rag": []}] * 3 + [{"base_fewshot": ["an example"], "lora_rag": ["a card"]}],
    }
)
SCORES = pd.DataFrame(
    {"card_id": ANSWERS.card_id, "group": ANSWERS.card_id, "system": "lora", "sound_f1": [0.0, 0.5, 0.75, 1.0]}
)
LIKELIHOOD = pd.DataFrame({"group": ANSWERS.card_id, "base": 3.0, "tuned": 2.0})


def write_run(folder: Path) -> None:
    """A run's data, params.yaml, docs and README in ``folder``."""
    for number, (stage, metrics) in enumerate(METRICS.items(), start=1):
        write_json(folder / "data/figures" / stage / "metrics.json", metrics)
        cost = {"seconds": number + 0.4, "peak_memory_mb": 1000 * number, "machine": MACHINE} | COSTS.get(stage, {})
        write_json(folder / "data/figures" / stage / "cost.json", cost)
    write_json(folder / "data/figures/evaluate/quantisation.json", {})
    write_json(folder / "data/figures/rerank_eval/answerability.json", answerability_metrics())
    write_json(folder / "data/figures/evaluate/open_book.json", open_book_metrics())
    write_json(folder / "data/scores/served_answer.json", SERVED_ANSWER)
    for name, table in TABLES.items():
        write_csv(pd.DataFrame(table), folder / f"data/figures/{name}.csv")
    clusters = pd.DataFrame({"card_id": ANSWERS.card_id, "cluster": [0, 0, 1, 1]})
    clusters.to_parquet(folder / "data/figures/eda/cards.parquet", index=False)
    LIKELIHOOD.to_parquet(folder / "data/figures/finetune/validation.parquet", index=False)
    curves = folder / "data/curves/plots/metrics"
    curves.mkdir(parents=True)
    for name, value in (CURVES | {"tokens_per_second": 90.5}).items():
        (curves / f"{name}.tsv").write_text(f"step\t{name}\n1\t{value}\n")
    (folder / "data/curves/metrics.json").write_text(json.dumps(CURVES | {"tokens_per_second": 90.5, "step": 4}))
    (folder / "data/answers").mkdir()
    ANSWERS.to_json(folder / "data/answers/answers.jsonl", orient="records", lines=True)
    SCORES.to_parquet(folder / "data/scores/scores.parquet", index=False)
    (folder / "docs").mkdir()
    write_csv(
        pd.DataFrame({"card_id": ["1", "2"], "kind": ["direction", "number"], "contradicts": [1, 0]}),
        folder / "docs/contradictions.csv",
    )
    shutil.copyfile(ROOT / "params.yaml", folder / "params.yaml")
    (folder / "README.md").write_text("before\n<!-- results -->\nold\n<!-- /results -->\nafter\n")
