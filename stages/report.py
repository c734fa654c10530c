"""report: publish what the other stages measured, and write the pages that a person reads.

reads   data/figures, data/curves, data/answers, data/scores, params.yaml, docs/contradictions.csv
writes  metrics/ (metrics/summary.json is flat, for `dvc metrics diff` and `dvc exp show`), plots/, REPORT.md,
        docs/DATASET_CARD.md

The README shows some of the metrics. A stage must not write a file that is in git and not its out, so a person renews
the README with `make readme`.
"""

from pathlib import Path

import pandas as pd

from medcards.answers.comparison import NEAR, SMALLEST_SLICE, answer_systems_of
from medcards.base.files import atomic, remove
from medcards.base.params import Seed
from medcards.report import answer_plots, answerability, answers, explore, results, search
from medcards.report.answerability import Refusals
from medcards.report.dataset_card import dataset_card
from medcards.report.render import render
from stages import DATA, FIGURES, load_params, run

METRICS, PLOTS, PAGE, CARD = Path("metrics"), Path("plots"), Path("REPORT.md"), Path("docs/DATASET_CARD.md")
JUDGED = Path("docs/contradictions.csv")


def draw(metrics: dict[str, dict], parts: pd.DataFrame, system: str, plots: Path) -> None:
    """Draw every figure into a folder, each with its data; figures of speed and cost into ``plots``/cost."""
    cost, latency = plots / "cost", metrics["cost/rerank_eval"]["latency"]
    explore.draw_audit(FIGURES / "audit", plots / "audit")
    explore.draw_eda(FIGURES / "eda", metrics["eda"], plots / "eda")
    exact = metrics["cost/index"]["exact"]
    search.draw_index(FIGURES / "index", metrics["index"], exact, plots / "index", cost / "index")
    search.draw_reranker_training(FIGURES / "rerank_train", plots / "rerank_train")
    folders = plots / "retrieval", cost / "retrieval"
    search.draw_retrieval(FIGURES / "rerank_eval", metrics["retrieval"], latency, *folders)
    answerability.draw_answerability(FIGURES / "rerank_eval", metrics["retrieval"]["split"], plots / "answerability")
    answer_plots.draw_finetuning(DATA / "curves", plots / "finetune", cost / "finetune")
    answer_plots.draw_answers(FIGURES / "evaluate", metrics["qa"], plots / "qa")
    answer_plots.draw_slices(parts, system, plots / "slices")
    answer_plots.draw_quantisation(metrics["quantisation"], plots / "quantisation")


def report_page(
    metrics: dict[str, dict], parts: pd.DataFrame, system: str, to_read: dict, refusals: Refusals, seed: int
) -> str:
    """The text of REPORT.md; the template names what is given here."""
    audit, eda, qa = (metrics[name] for name in ("audit", "eda", "qa"))
    ranked = results.ranked_questions(metrics["retrieval"])
    leak, again = (
        {side: results.leaked_share(block, "group", side, "bi-encoder") for side in ("questions", "answers")}
        for block in (audit, audit["dealt_again"])
    )
    topics, systems = results.topic_rows(eda), answer_systems_of(qa)
    columns = ["c_v", "c_v by seed", "npmi", "diversity"]
    return render(
        "report.md.jinja",
        metrics=metrics,
        warnings=search.search_warnings(metrics) + answers.warnings(qa, leak["questions"]["mean"]),
        leak=leak,
        leak_again=again,
        leakage=results.leakage_rows(audit),
        ranked=ranked,
        systems=results.retrieval_systems_of(ranked["own"]),
        questions_ranked=results.questions_ranked,
        query_sets=results.query_sets_of(ranked),
        by_query_set=results.query_set_rows(ranked),
        refusals=refusals,
        answerable=answerability.answerability_rows(metrics["answerability"][metrics["retrieval"]["split"]], refusals),
        answerable_columns=[*answerability.answerability_columns(refusals), "n"],
        open_book=answers.open_book_rows(metrics["open_book"]),
        open_differences=answers.open_book_differences(metrics["open_book"]),
        open_difference_columns=results.difference_columns(answers.OPEN_BOOK_SCORES_TESTED),
        asked=next(iter(systems.values())),
        kinds=answers.systems_by_kind(qa),
        all_systems=systems,
        differences=results.difference_rows(qa["differences"], answers.SCORES_TESTED),
        difference_columns=results.difference_columns(answers.SCORES_TESTED),
        search_differences=results.difference_rows(ranked["own"]["differences"], search.MEASURES_TESTED),
        search_difference_columns=results.difference_columns(search.MEASURES_TESTED),
        judged=answers.judged_hits(pd.read_csv(JUDGED), seed),
        near=NEAR,
        far=answer_systems_of(qa["far_from_training"]),
        agreement=answers.agreement_rows(qa),
        cut=answer_systems_of(qa["whole_sentences"]),
        system=system,
        worst=answers.worst_slices(parts, system),
        smallest_slice=SMALLEST_SLICE,
        bases=answers.base_rows(metrics["quantisation"]),
        clusters=eda["kmeans"]["grid"][str(eda["kmeans"]["k"])],
        topics=topics,
        topic_columns=[*columns, *(["agreement with branches"] if "agreement_with_branches" in eda else [])],
        to_read=to_read,
        machines=results.machines(metrics),
        versions=results.versions(metrics["index"]["engine"]),
        params=Path("params.yaml").read_text(encoding="utf-8"),
        costs=results.cost_rows(metrics),
    )


def main() -> None:
    seed, refusals = load_params(seed=Seed, rerank_eval=Refusals)
    metrics, (answered, scores) = results.read_figures(DATA, seed), answers.answers_and_scores(DATA)
    system = answers.closest_look(metrics["qa"])
    parts = answers.find_slices(FIGURES, answered, scores, seed)
    to_read = answers.answers_to_read(answered, scores, system)
    report = report_page(metrics, parts, system, to_read, refusals, seed)
    with atomic(CARD) as card, atomic(PAGE) as page:
        card.write_text(dataset_card(metrics), encoding="utf-8")
        page.write_text(report, encoding="utf-8")
        with atomic(METRICS) as published, atomic(PLOTS) as plots:
            results.publish_metrics(metrics, published)
            draw(metrics, parts, system, plots)
            for older in (METRICS, PLOTS, PAGE, CARD):  # a kill leaves no file of another run beside those of this one
                remove(older)


if __name__ == "__main__":
    run("report", main)
