"""How metrics become the headline figures and the result tables that a person reads."""

ORDER = ("bm25", "dense_exact", "hnsw", "hnsw_rerank", "echo", "copy_nearest", "base", "lora")


def summarise(metrics: dict[str, dict]) -> dict[str, float]:
    """The figures that a reader compares first: flat, fifteen at most."""
    ranked, answered = metrics["retrieval"]["test"]["own"], metrics["qa"]
    nll = metrics["finetune"]["validation_nll"]
    summary = {"cards": metrics["prepare"]["cards"]}
    summary["kmeans_silhouette"] = metrics["eda"]["kmeans"]["silhouette"][str(metrics["eda"]["kmeans"]["k"])]["mean"]
    summary["lda_coherence_cv"] = metrics["eda"]["lda"]["coherence_cv"]["mean"]
    summary["hnsw_recall@10"] = metrics["index"]["served"]["recall@10"]["mean"]
    summary |= {f"mrr@10_{name}": row["mrr@10"]["mean"] for name, row in systems(ranked).items()}
    summary |= {f"validation_nll_{name}": nll[name]["mean"] for name in ("base", "tuned")}
    summary |= {f"novel_f1_{name}": row["novel_f1"]["mean"] for name, row in systems(answered).items()}
    return summary


def cell(interval: dict) -> str:
    """A figure with its interval, as a table shows it."""
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
        + f"; {retrieval['corpus']:,} answers are searched. Every figure below is a mean with its 95% interval "
        "(bootstrap over groups)."
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
    parts.append(
        f"**Structure.** KMeans k = {eda['kmeans']['k']}: silhouette "
        f"{cell(eda['kmeans']['silhouette'][str(eda['kmeans']['k'])])}; LDA with {eda['lda']['topics']} topics: c_v "
        f"{cell(eda['lda']['coherence_cv'])} over topics."
    )
    return "\n\n".join(parts)
