"""What a person reads of the answers: tables, warnings, answers side by side."""

import pandas as pd

from medcards.answers.comparison import BASELINES, HEADLINE, KINDS, LEARNED, NEAR, SMALLEST_SLICE, best, systems_of
from medcards.base.stats import Bootstrap
from medcards.report.tables import cell, table

SCORES = ("token_f1", "idf_f1", "novel_f1", HEADLINE, "similarity", "nll")
CLOSER = ("em", "novel_idf_f1", "rouge_l", "chrf", "length_ratio", "truncated", "no_answer", "echoed", "contradiction")
TESTED = ("token_f1", "novel_f1", HEADLINE)
SMALL, LEAKED, CUT_OFF = 300, 0.05, 0.2
"""Fewer questions than this, a larger share of near-copies, a larger share of answers at the limit: a warning each."""
SIGNS = {
    "echoed": (0.8, "repeats the question: of its words, stop words left out, {:.0%} are the question's"),
    "length_ratio": (3.0, "is long-winded: its answers have {:.1f} times the words of the references"),
    "no_answer": (0.2, "gives no answer to {:.0%} of the questions"),
    "contradiction_side": (0.5, "swaps sides: where the reference names one, {:.0%} of its answers name the other"),
    "contradiction": (0.5, "contradicts {:.0%} of the references"),
}
"""What gives away a system that only looks as if it answered, by mean score: the bound, and what to say."""


def answer_tables(qa: dict) -> str:
    """The systems of metrics/qa.json under their headings, and the paired differences."""
    asked = systems_of(qa)
    known = [name for names in KINDS.values() for name in names]
    kinds = KINDS | {"Others": tuple(name for name in asked if name not in known)}
    counts = next(iter(asked.values()))
    parts = [
        f"**Answers** (n = {counts['token_f1']['n']} test questions, {counts['novel_f1']['n']} for novel and sound F1; "
        f"similarity by the search's own bi-encoder). Ranked by sound F1: novel F1, and 0 where the answer contradicts "
        "the reference."
    ]
    for kind, names in kinds.items():
        rows = {name: asked[name] for name in names if name in asked}
        if rows:
            parts += [f"{kind}:", table(rows, list(SCORES), "system")]
    if qa["differences"]:
        parts += [
            "Paired differences (p corrected by Holm for all pairs of a score; detectable: the smallest true "
            "difference that so many questions would show four times in five):",
            _differences(qa["differences"]),
        ]
    return "\n\n".join(parts)


def _differences(found: dict) -> str:
    columns = [name for score in TESTED for name in (score, "p", "detectable")]
    lines = ["| difference | " + " | ".join(columns) + " |", "|---|" + "---:|" * len(columns)]
    for pair, block in found.items():
        cells = [
            text
            for score in TESTED
            for text in (cell(block[score]), f"{block[score]['p_holm']:.3f}", f"{block[score]['detectable']:.3f}")
        ]
        lines.append(f"| {pair} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def closer_table(qa: dict) -> str:
    """The other scores of each system, and what may be wrong with its answers."""
    return table(systems_of(qa), list(CLOSER), "system")


def precision_of_contradictions(judged: pd.DataFrame, seed: int) -> str:
    """How many hits of the rules of medcards/contradictions.py are contradictions to a person who reads them.

    Parameters
    ----------
    judged : docs/contradictions.csv; card_id, and contradicts (0 or 1), a row a hit.
    """
    interval = Bootstrap(judged.card_id, seed).interval(judged.contradicts)
    return (
        f"Contradictions are found by rules. Of {interval['n']} hits that a person read (docs/contradictions.csv), a "
        f"share of {cell(interval)} were contradictions; how many the rules miss is not known."
    )


def far_table(qa: dict) -> str:
    """The scores of the questions alone that have no near-copy in training."""
    far = qa["far_from_training"]
    if not far:
        return "Every question has a near-copy in training, so none is left to look at alone."
    count = next(iter(far.values()))["token_f1"]["n"]
    return (
        f"The questions alone whose nearest training question has a cosine similarity below {NEAR} (n = {count}):\n\n"
        + table(far, list(TESTED), "system")
    )


def worst_slices(found: pd.DataFrame, system: str, count: int = 5) -> str:
    """The parts of the questions that a system answers worst, of those that :func:`medcards.answers.comparison.slices` found."""
    rows = found[found.system == system].sort_values("mean", kind="stable").head(count).to_dict("records")
    if not rows:
        return f"No part of the questions lies in {SMALLEST_SLICE} groups or more."
    shown = {f"{row['by']}: {row['slice']}": {"sound F1": row, "n": str(row["n"])} for row in rows}
    return table(shown, ["sound F1", "n"], "part")


def quantisation(found: dict, model: str) -> str:
    """What a quantised base costs, and saves; nothing where no bases were compared.

    Parameters
    ----------
    found : metrics/quantisation.json; model : the reference of the base model.
    """
    if not found:
        return ""
    bases = sorted(found.keys() - {"differences"}, key=lambda name: -found[name]["base_bytes"])
    rows = {name: found[name] | {"MB": f"{found[name]['base_bytes'] / 1e6:,.0f}"} for name in bases}
    scores = ["nll", *TESTED]
    was = " All are relative to a base that was itself de-quantised from a GGUF file." if ".gguf" in model else ""
    parts = [
        f"The tuned model on bases of other precision (n = {found[bases[0]]['nll']['n']}).{was}",
        table(rows, ["MB", *scores], "base"),
    ]
    if found["differences"]:
        parts.append(table(found["differences"], scores, "difference"))
    return "\n\n".join(parts)


def warnings(qa: dict, leaked: float) -> list[str]:
    """What a reader must know before believing the tables.

    Parameters
    ----------
    leaked : share of all test questions with a near-copy in training.
    """
    asked, found = systems_of(qa), []
    count = next(iter(asked.values()))["token_f1"]["n"]
    if count < SMALL:
        seen = [block[HEADLINE]["detectable"] for block in qa["differences"].values() if HEADLINE in block]
        what = f"; differences in sound F1 below {max(seen):.3f} may go unseen" if seen else ""
        found.append(f"Small sample: {count} questions{what}. `evaluate.questions` asks more.")
    if leaked > LEAKED:
        found.append(
            f"Leak: {leaked:.1%} of the test questions have a near-copy in training (see the split, attacked)."
        )
    for name, block in asked.items():
        if "truncated" in block and block["truncated"]["mean"] > CUT_OFF:
            share = block["truncated"]["mean"]
            found.append(f"`{name}`: {share:.0%} of its answers were cut off at `evaluate.max_new_tokens`.")
        if name in BASELINES:
            continue  # which are there to be seen through
        for score, (bound, words) in SIGNS.items():
            if score in block and block[score]["mean"] > bound:
                found.append(f"`{name}` {words.format(block[score]['mean'])}.")
    return found


def answers_to_read(predictions: pd.DataFrame, scores: pd.DataFrame, system: str, count: int = 5) -> str:
    """The questions that a system answered best and worst, with every system's answer and what it had read."""
    of = scores[scores.system == system].set_index("card_id")[HEADLINE].dropna().sort_values(kind="stable")
    table = predictions.set_index("card_id")
    parts = []
    for title, cards in ((f"Best of `{system}`", of.index[::-1][:count]), (f"Worst of `{system}`", of.index[:count])):
        parts.append(f"### {title}")
        for card in cards:
            row = table.loc[card]
            lines = [f"- reference: {_line(row.reference)}"]
            lines += [f"- {name}: {_line(text) or '(nothing)'}" for name, text in row.answers.items()]
            read = next(iter(row.read.values()), [])
            lines += [f"- card to read {number}: {_line(text)}" for number, text in enumerate(read, start=1)]
            parts += [f"**{_line(row.question)}** (sound F1 {of[card]:.2f})", "\n".join(lines)]
    return "\n\n".join(parts)


def _line(text: str, limit: int = 600) -> str:
    """A text on one line, without what Markdown or HTML would make of it, and not endless."""
    text = " ".join(str(text).split())
    text = text if len(text) <= limit else f"{text[:limit]} ... ({len(text.split()):,} words)"
    return text.replace("&", "&amp;").replace("<", "&lt;").replace("|", "\\|").replace("*", "\\*").replace("`", "'")


def best_learned(qa: dict) -> str:
    """The system that the report looks at closely: the best that learned, or the best of all where none was asked."""
    asked = systems_of(qa)
    return best(asked, LEARNED) or best(asked, list(asked))
