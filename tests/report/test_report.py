"""The stage report: what it publishes from a small hand-made data/figures, and what its pages say."""

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest
from handmade import (
    ANSWERS,
    CURVES,
    MACHINE,
    METRICS,
    ROOT,
    SCORES,
    interval,
    prepare_metrics,
    retrieval_metrics,
    write_run,
)

from medcards import InputError
from medcards.base.files import write_json
from medcards.report import answerability, explore, render
from medcards.report.answers import answers_to_read, base_rows, systems_by_kind
from medcards.report.dataset_card import dataset_card
from medcards.report.render import markdown_table
from medcards.report.results import machines, query_sets_of, read_figures, read_published, retrieval_systems_of
from medcards.report.search import search_warnings
from medcards.report.style import read_figure_table
from stages import report
from tools import readme


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """A folder with a run's data after the stage report."""
    folder = tmp_path_factory.mktemp("run")
    write_run(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        report.main()
    return folder


@pytest.fixture
def copied(run, tmp_path, monkeypatch) -> Path:
    """A copy of the run to change; the working directory."""
    folder = Path(shutil.copytree(run, tmp_path / "run"))
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def undrawn(monkeypatch) -> None:
    """The report draws no figure, which takes seconds."""
    monkeypatch.setattr(report, "draw", lambda *given: given[-1].mkdir())


def test_report_publishes_metrics_under_their_names(run):
    published = {str(file.relative_to(run / "metrics")) for file in (run / "metrics").rglob("*.json")}
    names = set(METRICS) - {"rerank_eval", "evaluate"} | {"retrieval", "qa", "quantisation", "summary"}
    names |= {"answerability", "open_book"}
    assert published == {f"{name}.json" for name in names} | {f"cost/{stage}.json" for stage in METRICS}
    assert json.loads((run / "metrics/qa.json").read_text())["lora"]["sound_f1"]["mean"] == 0.25
    assert read_published(run / "metrics") == read_figures(run / "data", seed=1)
    difference = {"mean": -1.0, "lo": -1.0, "hi": -1.0, "n": 4}
    tuned = json.loads((run / "metrics/finetune.json").read_text())
    assert tuned["differences"]["tuned-base"]["validation_nll"] == difference


def test_the_summary_is_flat(run):
    assert json.loads((run / "metrics/summary.json").read_text()) == {
        "cards": 3000,
        "leaked_questions@0.9": 0.2,
        "topics_c_v": 0.6,
        "hnsw_recall@10": 0.9,
        "mrr@10_dense_exact": 0.5,
        "answerable_auroc": 0.9,
        "validation_nll_tuned": 2.0,
        "sound_f1_best_baseline": 0.3,
        "sound_f1_base": 0.1,
        "sound_f1_lora": 0.25,
        "sound_f1_parrot": 0.05,
        "sound_f1_search_open": 0.6,
    }


def test_report_draws_the_committed_figures(run):
    """With the names that git knows; the picture of the quantised bases is not drawn here."""
    pictures = {str(file.relative_to(ROOT)) for file in (ROOT / "plots").rglob("*.png")}
    drawn = {str(file.relative_to(run)) for file in (run / "plots").rglob("*.png")}
    assert len(drawn) == 22 and drawn >= pictures - {"plots/quantisation/trade_off.png"}
    for picture in drawn:
        assert (run / picture).with_suffix(".csv").exists() and (run / picture).read_bytes().startswith(b"\x89PNG")


def test_tables_beside_figures_have_known_columns(run):
    first = {name: (run / f"plots/{name}.csv").read_text().splitlines()[:2] for name in ("qa/scores", "eda/clusters")}
    assert first["qa/scores"] == ["system,score,mean,lo,hi,n", "echo,token_f1,0,-0.1,0.1,4"]
    assert first["eda/clusters"] == [
        "k,davies_bouldin,silhouette,stability,silhouette_lo,silhouette_hi,"
        "davies_bouldin_smallest,stability_smallest,davies_bouldin_largest,stability_largest",
        "2,0.5,0.3,0.4,0.2,0.4,0.4,0.3,0.6,0.5",
    ]
    assert (run / "plots/index/served.csv").read_text().splitlines()[1:] == ["8,100,10,0.9,0.8,1,4,0.5"]
    assert (run / "plots/quantisation/trade_off.csv").read_text() == "base,megabytes,token_f1,novel_f1,sound_f1,nll\n"
    assert (run / "plots/answerability/risk_coverage.csv").read_text().splitlines()[:2] == [
        "coverage,mean,lo,hi,n,query_set",
        "0.5,0.1,0,0.2,8,typos",
    ]
    assert (run / "plots/answerability/reliability.csv").read_text().splitlines()[:2] == [
        "bin,probability,mean,lo,hi,n,query_set",
        "1,0.15,0,0,0,4,own",
    ]
    assert list(read_figure_table(run / "plots/eda/terms.csv").text) == ["null", "gout"]
    assert list(read_figure_table(run / "plots/eda/tsne_topic.csv").card_id) == ["1111", "2222"]


def test_curves_of_quality_hold_no_speed(run):
    quality = {str(file.relative_to(run)) for file in (run / "plots/finetune").rglob("*") if file.is_file()}
    curves = {f"plots/finetune/plots/metrics/{name}.tsv" for name in CURVES}
    assert quality == curves | {f"plots/finetune/{name}" for name in ("metrics.json", "losses.csv", "losses.png")}
    assert json.loads((run / "plots/finetune/metrics.json").read_text()) == CURVES | {"step": 4}
    speed = run / "plots/cost/finetune"
    assert json.loads((speed / "metrics.json").read_text()) == {"tokens_per_second": 90.5, "step": 4}
    assert (speed / "plots/metrics/tokens_per_second.tsv").read_text().endswith("1\t90.5\n")


def test_report_page(run):
    page = (run / "REPORT.md").read_text()
    assert "- Small sample: 4 questions; differences in sound F1 below 0.123 may go unseen." in page
    assert "- Leak: 20.0% of the test questions" in page and "- `parrot` repeats the question: 95%" in page
    assert "3,000 cards in 1,500 groups: 1,000 train" in page
    assert "At least 1,234 pairs of cards are near-duplicates." in page and "lower bound" in page
    assert (
        "| questions, bi-encoder            | 0.200 [0.100, 0.300] | 0.500 [0.400, 0.600] | -0.300 [-0.400, -0.200] |"
        in page
    )
    assert (
        "answers 12.5 times as many questions per second as exact search, one question at a time on one thread" in page
    )
    assert "and 2.0 times as many where both get all questions at once." in page
    assert "recall@10 is 0.900 [0.800, 1.000]" in page
    assert "measured on validation questions, by which experiments are chosen" in page
    assert "| base     | 0.200 [0.100, 0.300] |" in page.split("### Answers cut after their last whole sentence")[1]
    assert "nmf, the most coherent model, gains 0.100 in c_v over lda (3 seeds: 0.050 to 0.150)." in page
    assert "with a linear layer (trained on 6,000 training questions)" in page and "Quantised bases" not in page
    assert "Every question has a near-copy in training." in page
    assert "The training loss, a mean over answer tokens, goes from 3.000 to 2.500 nats per token." in page
    assert "the mean over the validation cards of each card's mean over its answer tokens" in page
    assert "base 3.000 [3.000, 3.000], tuned 2.000 [2.000, 2.000], difference -1.000" in page
    assert "| evaluate      |        12 |             12,000 |" in page
    assert "1.000 [1.000, 1.000] for directions (n = 1), 0.000 [0.000, 0.000] for the other kinds (n = 1)" in page


def test_only_bootstrap_intervals_stand_in_square_brackets(run):
    """Pairs of fits, topics and halves are no sample of groups: their range is printed with its n."""
    page = (run / "REPORT.md").read_text()
    assert "Every figure comes with its 95% interval" not in page
    assert "silhouette 0.300 [0.200, 0.400]." in page
    assert "Stability (adjusted Rand index) 0.400 (0.300 to 0.500), the mean and range of 4 pairs of fits" in page
    assert "branches 0.690 on all cards, 0.700 (0.600 to 0.800) as the mean and range of 100 random halves" in page
    assert "| nmf     | 0.600 (0.500 to 0.700) | 0.600 0.500 0.700 | 0.000 (-0.100 to 0.100) |" in page


def test_differences_of_search_and_answers_have_one_form(run):
    """p at the floor of its resamples is a bound."""
    page = (run / "REPORT.md").read_text()
    assert "| hybrid-dense_exact | 0.200 [0.100, 0.300] |    < 0.001 |               0.111 |" in page
    (row,) = [line for line in page.splitlines() if line.startswith("| lora-base ")]
    cells = ["0.150 [0.050, 0.250]", "0.020", "0.123"]
    assert [cell.strip() for cell in row.split("|")[2:-1]] == cells * 3


def section(page: str, title: str) -> str:
    """The text under a heading of the second level."""
    return page.split(f"\n## {title}\n")[1].split("\n## ")[0]


def table_rows(text: str) -> list[list[str]]:
    """The cells of the tables of a text, without their headings."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    heads = {place for place, line in enumerate(lines[1:]) if line.startswith("|:")}
    kept = [line for place, line in enumerate(lines) if place not in heads and not line.startswith("|:")]
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in kept]


def test_report_says_how_well_the_search_knows_that_the_deck_has_an_answer(run):
    text = section((run / "REPORT.md").read_text(), "Is the answer in the deck?")
    own = ["0.450 [0.400, 0.500]", "0.200 [0.150, 0.250]", "0.750 [0.700, 0.800]", "0.050 [0.000, 0.100]"]
    own += ["0.040 [0.030, 0.050]", "0.600 [0.500, 0.700]", "0.680 [0.580, 0.780]", "0.450 [0.350, 0.550]"]
    assert table_rows(text) == [
        ["own", "0.900 [0.850, 0.950]", *own, "0.950 [0.900, 1.000]", "8"],
        ["typos", "0.800 [0.750, 0.850]", *own, "-", "8"],  # perturbed questions are not asked so
    ]
    head = next(line for line in text.splitlines() if line.startswith("| query set"))
    assert [cell.strip() for cell in head.split("|")][-3:-1] == ["refused, topic hidden", "n"]
    assert "the share of the questions with their topic hidden that this threshold refuses" in text
    assert "| coverage at 5% risk |".replace(" ", "") in text.replace(" ", "")
    assert "Each validation question is asked twice" in text and "held out by group" in text
    assert "Below 0.17 the search refuses a question." in text and "at most 5% (`rerank_eval.false_refusals`)" in text
    assert "plots/answerability/risk_coverage.png" in text and "plots/answerability/reliability.png" in text


def test_report_names_the_false_refusals_of_the_parameters(copied, undrawn):
    params = copied / "params.yaml"
    params.write_text(params.read_text().replace("  false_refusals: 0.05", "  false_refusals: 0.025"))
    report.main()
    text = section((copied / "REPORT.md").read_text(), "Is the answer in the deck?")
    assert "coverage at 5% risk" in text and "refused at 2.5% false refusals" in text and "5% (`rerank" in text
    assert " 5% (" not in text


def test_report_says_what_of_the_search_users_are_served(run, copied, undrawn):
    """Whether spelling is corrected, and whether the questions of the cards are searched."""
    text = section((run / "REPORT.md").read_text(), "Search")
    assert "The spelling of every question is corrected before it is searched" in text
    assert "and not the questions of the cards." in text and "`with_questions`" not in text
    file = copied / "data/figures/rerank_eval/metrics.json"
    found = json.loads(file.read_text())
    found["served"] |= {"spelling": False, "questions": True}
    own = found["validation"]["own"]
    layperson = {name: own[name] for name in own if name not in ("another", "differences")}
    found["validation"]["layperson"] = layperson | {"with_questions": own["hybrid"]}
    write_json(file, found)
    report.main()
    text = section((copied / "REPORT.md").read_text(), "Search")
    assert "The spelling of questions is not corrected." in text
    assert "Users are served with the questions of the cards searched as well" in text
    rows = {name: cells for name, *cells in table_rows(text.split("MRR@10 by query set")[1])}
    assert rows["with_questions"] == ["-", "0.700 [0.600, 0.800]"] and "another" not in rows
    assert list(rows)[-1] == "with_questions"


def test_report_shows_the_answers_from_the_deck_and_what_is_served(run):
    text = section((run / "REPORT.md").read_text(), "Answers from the deck")
    refused = ["0.100 [0.000, 0.200]", "0.600 [0.500, 0.700]", "4"]
    quoted = ["0.800 [0.700, 0.900]"] * 3 + ["-", "0.800 [0.700, 0.900]", *refused]
    worded = ["0.700 [0.600, 0.800]"] * 3 + ["0.850 [0.750, 0.950]", "0.700 [0.600, 0.800]", *refused]
    difference = ["-0.100 [-0.150, -0.050]", "0.030", "0.222", "-", "-", "-"]
    assert table_rows(text) == [
        ["own, search_open", *quoted],
        ["own, lora_rag_open", *worded],
        ["typos, search_open", *quoted],
        ["typos, lora_rag_open", *worded],
        ["own, lora_rag_open-search_open", *difference],
        ["typos, lora_rag_open-search_open", *difference],
    ]
    assert "Over the 8 questions of all query sets" in text and "is -0.100 [-0.150, -0.050]." in text
    assert text.strip().endswith("does not lie above zero, so a user gets the first card, quoted.")
    published = json.loads((run / "metrics/open_book.json").read_text())
    assert published["served_answer"]["system"] == "search_open" and set(published) == {"own", "typos", "served_answer"}


@pytest.mark.parametrize(
    ("served", "says"),
    [
        (
            {"system": "lora_rag_open", "difference": interval(0.1, 0.05)},
            "is 0.100 [0.050, 0.150]. The interval lies above zero, so a user gets the model's words.",
        ),
        (
            {"system": "search_open", "difference": None},
            "`lora_rag_open` and `search_open` were not both asked, so a user gets the first card, quoted.",
        ),
    ],
)
def test_report_says_why_an_answer_is_quoted_or_worded(copied, undrawn, served, says):
    write_json(copied / "data/scores/served_answer.json", served)
    report.main()
    assert section((copied / "REPORT.md").read_text(), "Answers from the deck").strip().endswith(says)


def test_report_without_open_book_systems_says_so(copied, undrawn):
    write_json(copied / "data/figures/evaluate/open_book.json", {})
    write_json(copied / "data/scores/served_answer.json", {"system": "search_open", "difference": None})
    report.main()
    text = section((copied / "REPORT.md").read_text(), "Answers from the deck")
    assert table_rows(text) == [] and "No open-book system was asked." in text and "abstains" not in text
    assert json.loads((copied / "metrics/open_book.json").read_text()) == {
        "served_answer": {"system": "search_open", "difference": None}
    }


def test_figures_of_answerability_have_a_colour_for_each_query_set_and_a_diagonal(run, monkeypatch, tmp_path):
    drawn = {}
    monkeypatch.setattr(answerability, "save_figure", lambda figure, data, path: drawn.update({path.stem: figure}))
    answerability.draw_answerability(run / "data/figures/rerank_eval", "validation", tmp_path / "plots")
    legends = {
        name: [text.get_text() for text in figure.axes[0].get_legend().get_texts()] for name, figure in drawn.items()
    }
    sets = ["own", "typos"]
    assert legends == {"risk_coverage": sets, "reliability": ["share = probability", *sets]}
    assert len(drawn["risk_coverage"].axes[0].collections) == 2  # a band for each query set
    (risk,), (reliable,) = (drawn[name].axes for name in ("risk_coverage", "reliability"))
    assert risk.get_xlabel() == "coverage: share of the validation questions that are answered"
    assert risk.get_ylabel().endswith("is not relevant, 95% interval")
    assert reliable.lines[0].get_xydata().tolist() == [[0, 0], [1, 1]]
    assert "mean of a bin" in reliable.get_xlabel() and "95% interval" in reliable.get_ylabel()


def test_plots_over_a_range_say_so(run, monkeypatch, tmp_path):
    drawn = []
    monkeypatch.setattr(explore, "save_figure", lambda figure, data, path: drawn.append(figure))
    explore.plot_clusters(METRICS["eda"]["kmeans"], tmp_path / "clusters.png")
    seeds = pd.DataFrame({"method": ["lda"] * 2 + ["nmf"], "topics": 2, "seed": [0, 1, 0]})
    explore.plot_topic_models(seeds.assign(c_v=0.5, npmi=0.0, diversity=1.0), tmp_path / "topic_models.png")
    labels = [axes.get_ylabel().replace("\n", " ") for figure in drawn for axes in figure.axes]
    assert labels == [
        "silhouette (cosine) 95% interval",
        "stability (adjusted Rand index) range of 4 pairs of fits",
        "Davies-Bouldin (lower is better) range of 8 fits",
        "coherence c_v range of 2 seeds",
        "coherence NPMI range of 2 seeds",
        "topic diversity range of 2 seeds",
    ]


def test_report_names_the_machine_of_the_runs(run):
    """And not the machine that writes the report."""
    page = (run / "REPORT.md").read_text()
    assert "\nAll stages ran on A Processor, 2 cores, 16 GB of memory (cpu). The versions are Python 3." in page


def test_report_says_which_stages_ran_on_which_machine_and_device():
    gpu, other = MACHINE | {"device": "NVIDIA X"}, MACHINE | {"processor": "Another", "cores": 8}
    costs = {f"cost/{stage}": {"machine": MACHINE} for stage in METRICS}
    costs |= {f"cost/{stage}": {"machine": gpu} for stage in ("finetune", "answer")}
    assert machines(costs) == (
        "All stages ran on A Processor, 2 cores, 16 GB of memory (cpu: prepare, embed, adapt, audit, eda, index, "
        "rerank_train, rerank_eval, rows, quantise_eval, evaluate; NVIDIA X: finetune, answer)."
    )
    costs |= {f"cost/{stage}": {"machine": other} for stage in METRICS if stage not in ("finetune", "answer")}
    assert machines(costs).endswith(
        " quantise_eval, evaluate ran on Another, 8 cores, 16 GB of memory (cpu). "
        "finetune, answer ran on A Processor, 2 cores, 16 GB of memory (NVIDIA X)."
    )


def test_the_report_says_how_far_scores_agree_with_a_reader(run):
    table = (run / "REPORT.md").read_text().split("### Agreement with a reader")[1].split("###")[0]
    rows = [line.split("|")[1:4] for line in table.splitlines() if line.startswith("| ")]
    assert [[cell.strip() for cell in row] for row in rows[1:]] == [
        ["sound_f1", "0.600 [0.500, 0.700]", "0.200 [0.100, 0.300]"],
        ["token_f1", "0.500 [0.400, 0.600]", "0.300 [0.200, 0.400]"],
        ["em", "0.100 [0.000, 0.200]", "-"],
    ]


def test_report_heads_systems_by_what_they_know(run):
    page = (run / "REPORT.md").read_text()
    heads = [line for line in page.splitlines() if line.startswith("### ")]
    start = heads.index("### Knows nothing of the card")
    assert heads[start : start + 4] == [
        "### Knows nothing of the card",
        "### Closed book",
        "### Open book: the answer is in the deck",
        "### Others",
    ]
    assert (
        page.index("### Open book") < page.index("| search_open |") < page.index("### Others") < page.index("| parrot")
    )
    assert list(systems_by_kind(METRICS["evaluate"])["Others"]) == ["parrot"]


def test_report_shows_answers_without_their_markup(run):
    page = (run / "REPORT.md").read_text()
    assert "- lora: &lt;b>bold&lt;/b> \\*text\\*" in page and "- lora: (nothing)" in page
    assert "**What is \\| pain?** (sound F1 0.50)" in page and "- context 1: a card" in page


def test_the_report_warns_of_unknown_words_and_of_a_poor_index():
    metrics = METRICS | {
        "embed": {"unknown_tokens": {"answers": 0.4, "questions": 0.2}},
        "index": {"served": {"recall@10": interval(0.9), "target_recall": 0.99}},
    }
    unknown, index = search_warnings(metrics)
    assert "does not know 40% of the tokens" in unknown and "reaches the recall@10 of 0.99; the best has 0.900" in index
    metrics["embed"]["unknown_tokens"]["answers"], metrics["index"]["served"]["target_recall"] = 0.01, 0.9
    metrics["embed"]["unknown_tokens"]["questions"] = 0.0
    assert search_warnings(metrics) == []


def test_the_report_says_that_topics_are_left_out(copied):
    file = copied / "data/figures/eda/metrics.json"
    eda = json.loads(file.read_text())
    file.write_text(json.dumps(eda | {"topics": {"left_out": "the cards have 3 words to model"}}))
    names = copied / "data/figures/eda/cluster_names.csv"
    pd.read_csv(names).assign(terms="").to_csv(names, index=False)
    report.main()
    assert "Topics are left out: the cards have 3 words" in (copied / "REPORT.md").read_text()
    assert "topics_c_v" not in json.loads((copied / "metrics/summary.json").read_text())


def test_answers_to_read_are_the_best_and_the_worst():
    shown = answers_to_read(ANSWERS, SCORES, "lora", count=1)
    assert [question["question"] for question in shown["Best"]] == ["What is a sac?"]
    assert [question["question"] for question in shown["Worst"]] == ["What is gout?"]
    assert shown["Best"][0]["score"] == 1.0 and shown["Best"][0]["context"] == ["a card"]


def test_a_second_report_replaces_the_first_and_shows_quantised_bases_largest_first(copied):
    (copied / "plots/old.png").write_text("old")
    (copied / "metrics/old.json").write_text("{}")
    scores = {score: interval(0.5) for score in ("nll", "token_f1", "novel_f1", "sound_f1")}
    found = {
        "nf4": scores | {"base_bytes": 1e8},
        "none": scores | {"base_bytes": 5e8},
        "differences": {"nf4-none": scores},
    }
    assert [(base, row["MB"]) for base, row in base_rows(found).items()] == [("none", "500"), ("nf4", "100")]
    write_json(copied / "data/figures/evaluate/quantisation.json", found)
    report.main()
    page = (copied / "REPORT.md").read_text()
    assert page.index("### Quantised bases") < page.index("| none   |  500 |") < page.index("| nf4    |  100 |")
    assert not (copied / "plots/old.png").exists() and not (copied / "metrics/old.json").exists()
    assert "| nf4-none" in page and "de-quantised" not in page
    table = (copied / "plots/quantisation/trade_off.csv").read_text().splitlines()
    assert table[1:] == ["none,500,0.5,0.5,0.5,0.5", "nf4,100,0.5,0.5,0.5,0.5"]


def test_report_refuses_answers_and_scores_of_different_questions(copied):
    before = (copied / "REPORT.md").read_bytes()
    SCORES.head(3).to_parquet(copied / "data/scores/scores.parquet", index=False)
    with pytest.raises(InputError, match="of different questions: run `dvc repro -f evaluate`"):
        report.main()
    assert (copied / "REPORT.md").read_bytes() == before


def test_report_names_a_missing_file(copied):
    (copied / "data/figures/audit/similarity.csv").unlink()
    with pytest.raises(InputError, match=r"similarity\.csv is missing: run `dvc repro`"):
        report.main()
    assert (copied / "metrics/summary.json").exists() and not list(copied.glob(".*incomplete*"))


def test_a_template_edit_shows_in_the_report(copied, undrawn, monkeypatch):
    templates = Path(shutil.copytree(render.TEMPLATES, copied / "templates"))
    monkeypatch.setattr(render, "TEMPLATES", templates)
    page = templates / "report.md.jinja"
    page.write_text(page.read_text().replace("## Deck", "## The cards ({{ metrics.prepare.cards | thousands }})"))
    report.main()
    assert "## The cards (3,000)" in (copied / "REPORT.md").read_text()
    page.write_text("{{ absent }}")
    with pytest.raises(InputError, match=r"report\.md\.jinja: 'absent' is undefined"):
        report.main()


def test_a_report_of_test_questions_says_so_and_takes_their_figures(copied):
    """Here the test questions have the figures of the validation questions, but for the recall of the index."""
    write_json(copied / "data/scores/served_answer.json", {"system": "search_open", "difference": None})
    for name in ("rerank_eval/metrics", "evaluate/metrics", "rerank_eval/answerability"):
        file = copied / f"data/figures/{name}.json"
        metrics = json.loads(file.read_text().replace('"validation"', '"test"'))
        file.write_text(json.dumps(metrics | {"validation": metrics["test"]} if "test" in metrics else metrics))
    report.main()
    page = (copied / "REPORT.md").read_text()
    assert "measured on test questions. Choose nothing by them." in page and "n = 4 test questions" in page
    assert "finds 0.800 [0.700, 0.900]" in page
    assert "Each test question is asked twice" in page and "It was fitted on validation questions that" in page
    assert "Test questions choose nothing: here a user gets the first card, quoted." in page
    assert json.loads((copied / "metrics/summary.json").read_text())["hnsw_recall@10"] == 0.8


def test_readme_shows_its_rows_and_six_bullets_from_the_final_metrics(copied):
    shutil.rmtree(copied / "data")
    (copied / "final").mkdir()
    shutil.copytree(copied / "metrics", copied / "final/metrics")
    readme.main()
    text = (copied / "README.md").read_text()
    assert text.startswith("before\n<!-- results -->\n| what |") and text.endswith("<!-- /results -->\nafter\n")
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    bullets = [line for line in text.splitlines() if line.startswith("- ")]
    assert len(rows) == 1 + 13 and len(bullets) == 6
    assert "| Search, MRR@10 of `hybrid`, the served system | 0.700 [0.600, 0.800] | 4 |" in rows
    assert "| Answers, sound F1 of `search_open`, open book | 0.600 [0.500, 0.700] | 4 |" in rows
    assert "lowers the share of leaked test questions: -0.300 [-0.400, -0.200]" in bullets[0]
    assert "`hybrid` ranks better than `dense_exact`" in bullets[1] and "12.5 times" in bullets[2]
    assert "`lora_rag_open`, the tuned model's words, loses to `search_open`" in bullets[3]
    assert "raises the sound F1 of the base model: 0.150 [0.050, 0.250]" in bullets[4]
    assert "is not measurably better or worse than `copy_nearest`" in bullets[5]
    assert (
        "| Whether the deck has an answer, AUROC, each question asked of two decks | 0.900 [0.850, 0.950] | 8 |" in rows
    )
    assert "| Questions that are refused where their topic is hidden | 0.950 [0.900, 1.000] | 4 |" in rows
    readme.main()
    assert (copied / "README.md").read_text() == text


@pytest.mark.parametrize(
    ("beyond", "form", "says"),
    [
        ((0.2, 0.1, 0.3), (0.2, 0.1, 0.3), "tuning taught more than the form of an answer."),
        ((0.1, -0.1, 0.3), (0.2, 0.1, 0.3), "tuning taught the form of an answer, and no measurable knowledge."),
        ((0.1, -0.1, 0.3), (0.1, -0.1, 0.3), "tuning taught nothing measurable."),
        ((-0.2, -0.3, -0.1), (-0.2, -0.3, -0.1), "tuning taught nothing measurable."),
    ],
)
def test_readme_claims_what_the_intervals_support(copied, beyond, form, says):
    """The gain over base_fewshot in sound F1 is knowledge, and the gain over base in token F1 alone is form."""
    shutil.copytree(copied / "metrics", copied / "final/metrics")
    qa = json.loads((copied / "final/metrics/qa.json").read_text())
    for pair, score, figures in (("lora-base_fewshot", "sound_f1", beyond), ("lora-base", "token_f1", form)):
        tested = dict(zip(("mean", "lo", "hi"), figures, strict=True)) | {"n": 4, "p": 0.01, "p_holm": 0.02}
        qa["differences"].setdefault(pair, {})[score] = tested
    (copied / "final/metrics/qa.json").write_text(json.dumps(qa))
    readme.main()
    assert says in (copied / "README.md").read_text()


def test_readme_names_the_systems_that_validation_chose(copied):
    """On the test questions base is the best system that learned, on the validation questions lora."""
    shutil.copytree(copied / "metrics", copied / "final/metrics")
    qa = json.loads((copied / "final/metrics/qa.json").read_text())
    qa["base"]["sound_f1"]["mean"] = 0.9
    (copied / "final/metrics/qa.json").write_text(json.dumps(qa))
    readme.main()
    assert "`lora`, the model's best on validation questions |" in (copied / "README.md").read_text()


def test_readme_without_marks_is_refused(copied):
    (copied / "README.md").write_text("no marks\n")
    shutil.copytree(copied / "metrics", copied / "final/metrics")
    with pytest.raises(
        SystemExit, match="readme: README.md: the marks <!-- results --> and <!-- /results --> are missing"
    ):
        readme.main()


@pytest.mark.parametrize(
    ("material", "expected"),
    [
        (
            {"source": "file", "rows": 3001, "files": {"decks/a_*b*<i>.csv": "00ff"}},
            "- decks/a\\_\\*b\\*&lt;i>.csv, sha256 `00ff`",
        ),
        (
            {"source": "hub", "reference": "hub:a/b@c", "rows": 9, "sha256_of_content": "ff", "licence": None},
            "card states none.",
        ),
        (
            {"source": "hub", "reference": "hub:a/b@c", "rows": 9, "sha256_of_content": "ff", "licence": "mit"},
            "license: mit",
        ),
        (
            {
                "source": "ontology",
                "reference": "pypi:a@1/b@sha256:0",
                "release": "r1",
                "definitions": 2000,
                "terms_without_definition": 5,
            },
            "of 2,000 current terms",
        ),
    ],
)
def test_dataset_card_describes_each_source(material, expected):
    metrics = {name: METRICS[name] for name in ("embed", "audit", "eda")} | {"prepare": prepare_metrics(material)}
    card = dataset_card(metrics)
    assert card.startswith("---\nlicense: ") and "size_categories:\n- 1K<n<10K" in card and expected in card
    assert "| train | 1,000 | 500 | 900 | 0 | 1.0, 2.0, 3.0 |" in card
    assert "The median question has 7.5 words" in card and "lie in different splits" not in card
    assert "20.0% of the test questions (95% interval 10.0% to 30.0%, n = 4)" in card
    assert "(1,234 pairs are found, and the search can miss pairs)" in card
    assert card.count("\n\n\n") == 0 and card.endswith("\n") and not card.endswith("\n\n")


def test_tables_order_systems_and_show_a_dash_for_a_missing_figure():
    assert list(retrieval_systems_of(retrieval_metrics()["validation"]["own"])) == [
        "bm25",
        "dense_exact",
        "hybrid",
        "another",
    ]
    assert query_sets_of({"typos": {}, "others": {}, "own": {}}) == ["own", "typos", "others"]
    table = markdown_table({"a": {"x": interval(0.5), "y": 0.25}, "b": {"y": "text"}}, ["x", "y"], "system")
    assert table.splitlines()[2:] == [
        "| a        | 0.500 [0.400, 0.600] | 0.250 |",
        "| b        |                    - |  text |",
    ]
