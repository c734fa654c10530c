"""How metrics become the headline figures and the result tables that a person reads."""

import os
import platform
from importlib.metadata import version

from medcards.answers.comparison import BASELINES, HEADLINE, OPEN, best, systems_of
from medcards.report.answers import answer_tables
from medcards.report.tables import cell, table

ORDER = (
    "bm25",
    "dense_before",
    "hybrid_before",
    "dense_exact",
    "hnsw",
    "hybrid",
    "hnsw_rerank",
    "hybrid_rerank",
)

QUERY_SETS = ("own", "layperson", "typos", "word_drops", "lower_case")
PACKAGES = ("dvc", "torch", "transformers", "peft", "trl", "bitsandbytes", "sentence-transformers", "hnswlib", "numpy")
HEADLINES = ("dense_exact", "hybrid", "hybrid_rerank")


def summarise(metrics: dict[str, dict]) -> dict[str, float]:
    """The figures that a reader compares first: flat, fifteen at most."""
    ranked, answered = metrics["retrieval"]["test"]["own"], metrics["qa"]
    nll = metrics["finetune"]["validation_nll"]
    summary = {"cards": metrics["prepare"]["cards"]}
    summary["leaked_questions@0.9"] = leaked(metrics["audit"], "group", "questions", "bi-encoder")["leaked@0.9"]["mean"]
    summary["topics_c_v"] = best_topics(metrics["eda"])["c_v"]["mean"]
    summary["hnsw_recall@10"] = metrics["index"]["served"]["test"]["recall@10"]["mean"]
    summary |= {f"mrr@10_{name}": ranked[name]["mrr@10"]["mean"] for name in HEADLINES if name in ranked}
    summary |= {f"validation_nll_{name}": nll[name]["mean"] for name in ("base", "tuned")}
    if baseline := best(answered, BASELINES):
        summary[f"{HEADLINE}_best_baseline"] = answered[baseline][HEADLINE]["mean"]
    asked = systems_of(answered)
    return summary | {
        f"{HEADLINE}_{name}": block[HEADLINE]["mean"] for name, block in asked.items() if name not in BASELINES + OPEN
    }


def leaked(audit: dict[str, dict], method: str, side: str, encoder: str) -> dict:
    """Shares of test cards that lie too near to a training card, by threshold; ``method`` may be ``differences``."""
    block = audit[method]
    return (block["group-random"] if method == "differences" else block)[side][encoder]


def best_topics(eda: dict) -> dict:
    """The scores of the most coherent topic model."""
    chosen = eda["topics"]["best"]
    return eda["topics"]["grid"][chosen["method"]][str(chosen["topics"])]


def systems(block: dict) -> dict[str, dict]:
    """A metrics block without its differences, in the order of :data:`ORDER`, what is new last."""
    places = {name: place for place, name in enumerate(ORDER)}
    names = sorted(block.keys() - {"differences"}, key=lambda name: (places.get(name, len(ORDER)), name))
    return {name: block[name] for name in names}


def results(metrics: dict[str, dict]) -> str:
    """The result tables, as REPORT.md and the README show them."""
    prepared, retrieval, qa = metrics["prepare"], metrics["retrieval"], metrics["qa"]
    tuned, eda = metrics["finetune"], metrics["eda"]
    sizes = {name: f"{split['cards']:,} {name}" for name, split in prepared["splits"].items()}
    parts = [
        f"**Deck.** {prepared['cards']:,} cards in {prepared['groups']['count']:,} groups: "
        + ", ".join(sizes[name] for name in ("train", "validation", "test"))
        + f"; {retrieval['corpus']:,} answers are searched. Every figure below comes with its 95% interval "
        "(bootstrap over groups of cards).",
        the_split(metrics),
    ]
    parts += search(metrics)
    parts.append(fine_tuning(tuned))
    parts.append(answer_tables(qa))
    return "\n\n".join([*parts, structure(eda)])


def fine_tuning(tuned: dict) -> str:
    """What was trained on what, and what it gave on the validation cards."""
    nll, train, loss = tuned["validation_nll"], tuned["train"], tuned["curve"]["train"]
    base = "base" if tuned["quantize"] == "none" else f"{tuned['quantize']} base"
    return (
        f"**Fine-tuning.** {train['rows']:,} cards ({train['tokens']:,} tokens; {train['answers_cut']} answers cut, "
        f"{train['with_context']} cards with others to read first), {tuned['trainable_parameters']:,} trainable "
        f"parameters ({tuned['trainable_share']:.2%}) on a {base} of {tuned['base_bytes'] / 1e6:,.0f} MB in "
        f"{tuned['dtype']}. The training loss goes from {loss['first']:.3f} to {loss['last']:.3f}, "
        f"the validation loss is lowest after step {tuned['best_step']} of {tuned['steps']}, whose adapter is kept. "
        f"Validation loss of the reference answer (nats per token, n = {nll['base']['n']}): base {cell(nll['base'])}, "
        f"tuned {cell(nll['tuned'])}, difference {cell(tuned['differences']['tuned-base']['validation_nll'])}."
    )


def the_split(metrics: dict[str, dict]) -> str:
    """How much of the test leaks into training, against a split at random."""
    prepared = metrics["prepare"]
    counts, again = prepared["duplicates"], metrics["audit"]["dealt_again"]
    methods = (("group", "group split"), ("random", "random split"), ("differences", "difference"))
    rows = {
        f"{side}, {encoder}{note}": {
            name: leaked(block, method, side, encoder)["leaked@0.9"] for method, name in methods
        }
        for block, encoder, note in (
            (metrics["audit"], "bi-encoder", ""),
            (metrics["audit"], "characters", ""),
            (again, "bi-encoder", f", {again['deals']} splits"),
        )
        for side in ("questions", "answers")
    }
    number = {
        side: leaked(metrics["audit"], "group", side, "bi-encoder")["leaked@0.9"]["n"]
        for side in ("questions", "answers")
    }
    number |= {
        f"all {side}": leaked(again, "group", side, "bi-encoder")["leaked@0.9"]["n"]
        for side in ("questions", "answers")
    }
    return (
        f"**The split, attacked.** {counts['near_duplicate_pairs']:,} pairs of cards are near-duplicates; the largest "
        f"group has {prepared['groups']['largest']} cards ({prepared['groups']['largest_share']:.2%}). Share of test "
        f"cards whose nearest training card has a cosine similarity of 0.9 or more (n = {number['questions']:,} "
        f"questions, {number['answers']:,} answers; over {again['deals']} splits by the same groups n = "
        f"{number['all questions']:,} and {number['all answers']:,}):\n\n"
        + table(rows, ["group split", "random split", "difference"], "similarity of")
    )


def search(metrics: dict[str, dict]) -> list[str]:
    """How well the deck can be searched, by system and query set, and what is served."""
    retrieval, test = metrics["retrieval"], metrics["retrieval"]["test"]
    own, served = systems(test["own"]), retrieval["served"]
    columns = ["mrr@10", "ndcg@10", "recall@1", "recall@10", "recall@50"]
    chosen_on = count(systems(retrieval["validation"]["own"]))
    how = f"BM25's weight in hybrid {served['bm25_weight']:.1f}"
    if "reranking_gain" in retrieval:
        cosine, words, cross_encoder = served["rerank_weights"]
        how += (
            f"; in hybrid_rerank cosine {cosine:g}, BM25 {words:g}, cross-encoder {cross_encoder:g}; its gain "
            f"over hybrid there, with weights that other questions chose, {cell(retrieval['reranking_gain']['mrr@10'])}"
        )
    parts = [
        f"**Search, own questions** (n = {count(own)}, test split). Served is `{served['system']}`, chosen with all "
        f"weights on {chosen_on} validation questions ({how}).",
        table(own, columns, "system"),
    ]
    if "hybrid_rerank" in own:
        parts.append(
            f"The first {served['candidates']} answers, which are all that the cross-encoder sees, hold of the right "
            f"ones: hnsw {cell(own['hnsw_rerank']['candidate_recall'])}, hybrid "
            f"{cell(own['hybrid_rerank']['candidate_recall'])}."
        )
    parts += [
        "Paired differences:",
        table(test["own"]["differences"], ["mrr@10", "ndcg@10", "recall@10"], "difference"),
    ]
    names = [name for name in QUERY_SETS if name in test]
    everywhere = [name for name in own if all(name in test[query_set] for query_set in names)]
    rows = {name: {query_set: test[query_set][name]["mrr@10"] for query_set in names} for name in everywhere}
    numbers = ", ".join(f"{name} {count(systems(test[name]))}" for name in names)
    parts += [f"MRR@10 by query set (n: {numbers}):", table(rows, names, "system")]
    index, ratios = metrics["index"]["served"], metrics["cost/index"]["ratios"]
    found, low = index["test"]["recall@10"], index["test"]["recall@10_p5"]
    alone, batch = ratios["hnsw_to_exact"], ratios["hnsw_to_exact_in_batch"]
    parts.append(
        f"The HNSW index as served (m {index['m']}, ef_construction {index['ef_construction']}, ef_search "
        f"{index['ef_search']}, chosen on validation questions, where recall@10 is {cell(index['recall@10'])}) finds "
        f"{cell(found)} of the ten nearest answers (n = {found['n']} test questions; 5th percentile {low:.2f}), at "
        f"{alone:.1f} times the queries/s of exact search, one question at a time on one thread, and {batch:.1f} times "
        "those of exact search on all questions at once. Rankings are 50 deep, for which ef_search is 50 at least."
    )
    return parts


def count(block: dict[str, dict]) -> int:
    """The number of questions that a block of systems was scored on."""
    return next(iter(block.values()))["mrr@10"]["n"]


def structure(eda: dict) -> str:
    """Clusters and topic models, with what says whether they are real."""
    kmeans, topics, agreement = eda["kmeans"], eda["topics"], eda.get("agreement_with_branches")
    number, method = topics["best"]["topics"], topics["best"]["method"]
    chosen = kmeans["grid"][str(kmeans["k"])]
    grids = {name: grid[str(number)] for name, grid in topics["grid"].items()}
    seeds = {name: " ".join(f"{value:.3f}" for value in grid["c_v_by_seed"]) for name, grid in grids.items()}
    rows = {name: grid | {"c_v by seed": seeds[name]} for name, grid in grids.items()}
    columns = ["c_v", "c_v by seed", "npmi", "diversity"]
    if agreement:
        columns.append("agreement with branches")
        rows = {name: row | {columns[-1]: agreement[name]} for name, row in rows.items()}
    gains = [
        f"{gain['mean']:.3f} over {other} (three seeds: {gain['smallest']:.3f} to {gain['largest']:.3f})"
        for other, gain in topics["gain_c_v"].items()
        if other in ("lda_raw", "lda")
    ]
    in_branches = ""
    if agreement:
        in_branches = f", adjusted mutual information with the ontology's branches {cell(agreement['kmeans'])}"
    lines = [
        f"**Structure.** KMeans k = {kmeans['k']}: silhouette {cell(chosen['silhouette'])}, stability (adjusted Rand "
        f"index) {cell(chosen['stability'])}{in_branches}. Topic models with {number} topics; "
        "intervals over the topics of the first seed:",
        table(rows, columns, "model"),
    ]
    if gains:
        lines.append(f"The most coherent, {method}, gains in c_v " + " and ".join(gains) + ".")
    return "\n\n".join(lines)


def made_with(device: str) -> str:
    """What the figures were made with: the kind of machine, what was fine-tuned on, and the packages they hang on."""
    machine = f"{platform.system()} on {platform.machine()}, {os.cpu_count()} CPU cores"
    packages = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    return f"{machine}; fine-tuned on {device}. Python {platform.python_version()}, {packages}."


def models(metrics: dict[str, dict]) -> str:
    """The models that were used, and which of them were trained here."""
    encoder, reranker = metrics["embed"], metrics["rerank_train"]
    adapted = f" (adapted on {encoder['adapted']['questions']:,} training questions)" if encoder["adapted"] else ""
    trained = f" (trained here, {reranker['steps']} steps)" if reranker["trained"] else ""
    return (
        f"Bi-encoder `{encoder['model']}`{adapted}, cross-encoder `{reranker['model']}`{trained}, language model "
        f"`{metrics['finetune']['model']}`."
    )


def costs(rows: dict[str, dict]) -> str:
    """What each stage took, on the machine that ran it."""
    lines = [f"| {name} | {row['seconds']:.0f} | {row['peak_memory_mb']:,} |" for name, row in rows.items()]
    return "\n".join(["| stage | seconds | peak memory (MB) |", "|---|---:|---:|", *lines])
