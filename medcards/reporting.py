"""How metrics become the headline figures and the result tables that a person reads."""

ORDER = ("bm25", "dense_exact", "hnsw", "hnsw_rerank", "echo", "copy_nearest", "base", "lora")


def summarise(metrics: dict[str, dict]) -> dict[str, float]:
    """The figures that a reader compares first: flat, fifteen at most."""
    ranked, answered = metrics["retrieval"]["test"]["own"], metrics["qa"]
    nll = metrics["finetune"]["validation_nll"]
    summary = {"cards": metrics["prepare"]["cards"]}
    summary["leaked_questions@0.9"] = leaked(metrics["audit"], "group", "questions", "bi-encoder")["leaked@0.9"]["mean"]
    summary["topics_c_v"] = best_topics(metrics["eda"])["c_v"]["mean"]
    summary["hnsw_recall@10"] = metrics["index"]["served"]["recall@10"]["mean"]
    summary |= {f"mrr@10_{name}": row["mrr@10"]["mean"] for name, row in systems(ranked).items()}
    summary |= {f"validation_nll_{name}": nll[name]["mean"] for name in ("base", "tuned")}
    summary |= {f"novel_f1_{name}": row["novel_f1"]["mean"] for name, row in systems(answered).items()}
    return summary


def leaked(audit: dict[str, dict], method: str, side: str, encoder: str) -> dict:
    """Shares of test cards that lie too near to a training card, by threshold; ``method`` may be ``differences``."""
    block = audit[method]
    return (block["group-random"] if method == "differences" else block)[side][encoder]


def best_topics(eda: dict) -> dict:
    """The scores of the most coherent topic model."""
    best = eda["topics"]["best"]
    return eda["topics"]["grid"][best["method"]][str(best["topics"])]


def cell(interval: dict | float | str) -> str:
    """A figure as a table shows it, with its interval if it has one."""
    if isinstance(interval, str):
        return interval
    if isinstance(interval, float):
        return f"{interval:.3f}"
    return f"{interval['mean']:.3f} [{interval['lo']:.3f}, {interval['hi']:.3f}]"


def table(rows: dict[str, dict], columns: list[str], head: str) -> str:
    """A Markdown table of intervals: a row a system, a column a figure."""
    lines = [f"| {head} | " + " | ".join(columns) + " |", "|---|" + "---:|" * len(columns)]
    lines += [f"| {name} | " + " | ".join(cell(row[column]) for column in columns) + " |" for name, row in rows.items()]
    return "\n".join(lines)


def systems(block: dict) -> dict[str, dict]:
    """A metrics block without its differences, in the order of :data:`ORDER`, what is new last."""
    places = {name: place for place, name in enumerate(ORDER)}
    names = sorted(block.keys() - {"differences"}, key=lambda name: (places.get(name, len(ORDER)), name))
    return {name: block[name] for name in names}


def results(metrics: dict[str, dict]) -> str:
    """The result tables, as REPORT.md and the README show them."""
    prepared, retrieval, qa = metrics["prepare"], metrics["retrieval"], metrics["qa"]
    tuned, index, eda = metrics["finetune"], metrics["index"]["served"], metrics["eda"]
    sizes = {name: f"{split['cards']:,} {name}" for name, split in prepared["splits"].items()}
    parts = [
        f"**Deck.** {prepared['cards']:,} cards in {prepared['groups']['count']:,} groups: "
        + ", ".join(sizes[name] for name in ("train", "validation", "test"))
        + f"; {retrieval['corpus']:,} answers are searched. Every figure below comes with its 95% interval "
        "(bootstrap over groups of cards).",
        the_split(metrics),
    ]
    for query_set, block in sorted(retrieval["test"].items(), reverse=True):  # own first
        count = next(iter(block.values()))["mrr@10"]["n"]
        parts.append(f"**Search, {query_set} questions** (n = {count}, test split).")
        parts.append(table(systems(block), ["mrr@10", "ndcg@10", "recall@1", "recall@10", "recall@50"], "system"))
    parts.append(
        f"The HNSW index (M {index['m']}, ef_search {index['ef_search']}) finds {cell(index['recall@10'])} of the "
        f"exact ten nearest answers (n = {index['recall@10']['n']} validation questions)."
    )
    nll = tuned["validation_nll"]
    parts.append(
        f"**Fine-tuning.** {tuned['train_cards']} cards, {tuned['trainable_parameters']:,} trainable parameters "
        f"({tuned['trainable_share']:.2%}). Validation loss of the reference answer "
        f"(nats per token, n = {nll['base']['n']}): base {cell(nll['base'])}, tuned {cell(nll['tuned'])}, difference "
        f"{cell(tuned['differences']['tuned-base']['validation_nll'])}."
    )
    counts = {score: interval["n"] for score, interval in qa["echo"].items()}
    parts.append(f"**Answers** (n = {counts['token_f1']} test questions; novel F1 n = {counts['novel_f1']}).")
    parts.append(table(systems(qa), ["em", "token_f1", "novel_f1"], "system"))
    parts.append("Paired differences:")
    parts.append(table(qa["differences"], ["token_f1", "novel_f1"], "difference"))
    return "\n\n".join([*parts, structure(eda)])


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
