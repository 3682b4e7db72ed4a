import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from distill.answers.runs.questions import OF_ALL, OF_SAMPLES
from distill.contracts.columns import COLUMNS, MEASURED
from distill.contracts.figures import FIGURES
from distill.contracts.run import Run
from distill.core.display import visible
from distill.core.errors import UserError
from distill.core.quantities import number
from distill.report import runs as report_runs
from distill.report.page import write_report
from distill.table.benchmarks import benchmark_summary, with_benchmarks
from drawing import draw_all, drawable
from report_page import REPORT, answers_of, make_report
from synthetic_runs import COLUMNS as TABLE_COLUMNS
from synthetic_runs import EVIL, make_references, make_runs, make_samples

pytestmark = pytest.mark.slow  # fits the laws of each report


@pytest.fixture(scope="module")
def page(pictures: Path) -> str:
    return (pictures / "report.html").read_text(encoding="utf-8")


class Tags(HTMLParser):
    """Collects every tag with its attributes."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def test_model_text_can_neither_run_nor_disguise_itself(page: str) -> None:
    assert "&lt;script&gt;document.title" in page
    assert "⟨U+001B⟩[31mred" in page
    assert "⟨U+202E⟩right-to-left⟨U+202C⟩" in page
    assert "nul⟨U+0000⟩end" in page
    assert "{{ 7 * 7 }}" in page
    assert not re.search(
        r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]", page
    )


def test_nothing_is_loaded_from_the_network(page: str) -> None:
    tags = Tags(page).found
    assert not {"script", "link", "iframe", "object", "embed", "form"} & {tag for tag, _ in tags}
    loads = [v for _, attrs in tags for k, v in attrs.items() if k in ("src", "href", "srcset")]
    runs, references = make_runs(caches=("top64", "hidden")), make_references()
    assert len(loads) == sum(drawable(name, runs, references) for name in FIGURES)
    assert len(loads) > len(FIGURES) / 2
    assert all(load is not None and load.startswith("data:image/") for load in loads)
    assert not any(k.startswith("on") for _, attrs in tags for k in attrs)
    style = page.split("<style>")[1].split("</style>")[0]
    assert "url(" not in style
    assert "@import" not in style


def test_the_page_forbids_scripts_and_network(page: str) -> None:
    policies = [
        attrs["content"]
        for tag, attrs in Tags(page).found
        if tag == "meta" and attrs.get("http-equiv") == "Content-Security-Policy"
    ]
    assert policies == [
        "default-src 'none'; img-src data:; style-src 'unsafe-inline'; "
        "base-uri 'none'; form-action 'none'"
    ]


def test_sections_come_in_order(page: str) -> None:
    heads = re.findall(r"<h2>(.*?)</h2>", page)
    assert heads == [
        "What was measured",
        "Do returns diminish?",
        "Laws",
        "Questions and answers",
        "Other figures",
        "Students compared",
        "Methods and soft targets",
        "All runs",
        "Pass rates",
        "What they write",
        "Checks",
        "What it cost",
        "What this study may not claim",
        "Definitions",
        "Provenance",
    ]
    lead, perplexity = page.index('class="lead"'), page.index('id="figure-perplexity"')
    assert lead < perplexity < page.index("Do returns diminish?")


def test_what_is_said(page: str) -> None:
    for text in (
        "The largest size measured is 1,024 samples",
        "No asymptote",
        "No exponent in model size N",
        "No sweet spot",
        "no cost was stated",
        "10 of 10 runs agree within three standard errors",
        "0 near-duplicates",
        "91.3 %",
        "rows mix two versions of torch",
        "8.0 % on the fixed set",
        "6 prompts passed by the first alone, 1 by the second alone",
    ):
        assert text in page, text


def test_a_claimed_sweet_spot_is_bounded(tmp_path: Path, pictures: Path) -> None:
    cost = {"samples": 7e-4}
    page = make_report(tmp_path, make_runs(), make_references(), None, cost, pictures).read_text(
        "utf-8"
    )
    assert "The sweet spot holds for the stated cost" in page
    assert "No sweet spot:" not in page


def test_benchmarks_have_a_section_of_their_own(tmp_path: Path, pictures: Path) -> None:
    runs, references = make_runs(), make_references()
    record = {"value": 0.6, "stderr": 0.05, "documents": None, "chance": 0.25, "n": 100,
              "metric": "acc", "filter": "none", "fewshot": 5, "version": 1, "cut": 3,
              "documents_sha256": "", "higher_is_better": True,
              "spec": {"limit": None}}  # fmt: skip
    judged = Run("layers-2", "smol", "kd", "none", "top64", 1024, 0, 0)
    scores = {(judged, "quiz"): record}
    references["benchmarks"] = benchmark_summary(["quiz"], scores, {("smol", "quiz"): record})
    runs = with_benchmarks(runs, ["quiz"], scores)
    page = make_report(tmp_path, runs, references, None, pictures=pictures).read_text("utf-8")
    section = page[page.index("<h2>Benchmarks") : page.index("<h2>Checks")]
    for text in ("acc, 100 documents, 5 examples before each", "within the noise of the teacher",
                 "better than guessing", "3 prompts of quiz are longer than the context of layers-2"):  # fmt: skip  # noqa: E501
        assert text in section, text
    assert "<dt>benchmark_quiz</dt>" in page
    assert "<dt>benchmark_quiz_stderr</dt>" in page


def test_a_failed_check_is_told(tmp_path: Path, pictures: Path) -> None:
    references = make_references()
    references["identity"][0]["z"] = -7.5
    runs = make_runs()
    runs.loc[(runs["samples"] == 1024) & (runs["method"] == "kd"), "loss"] = 3.0
    page = make_report(tmp_path, runs, references, None, pictures=pictures).read_text("utf-8")
    assert "9 of 10 runs agree" in page
    assert "Some do not" in page
    assert "Perplexity does not fall everywhere for layers-2 · kd" in page


def test_rows_left_out_are_told(tmp_path: Path, pictures: Path) -> None:
    references = make_references()
    counts = {"read": 1500, "left_out": {"output": 7, EVIL: 1}}
    references["near_duplicates"]["data"] = counts
    page = make_report(tmp_path, make_runs(), references, None, pictures=pictures).read_text()
    wanted = "Of the 1,500 rows of the data set, 7 without <code>output</code> and 1 without <code>"
    assert wanted in page
    assert EVIL not in page


def test_methods_and_soft_targets_are_shown(page: str) -> None:
    start, end = page.index("Methods and soft targets"), page.index("<h2>All runs")
    section = page[start:end]
    for text in (
        "0.5 CE(text) + 0.5 T² KL(q ‖ s), T = 2",
        "likeliest tokens and the rest as one",
        "98.50 %",
        "At equal samples",
        "sft − kd · top64",
        "At equal FLOPs",
        "What a smaller cache costs",
        "The smallest cache equivalent to hidden is top64: 131.0 bytes per token instead of 1,152",
        "train.learning_rate",
        'id="figure-flops"',
        'id="figure-cache_cost"',
        'id="figure-search"',
    ):
        assert text in section, text
    for name in ("flops", "cache_cost", "search"):
        assert page.count(f'id="figure-{name}"') == 1
    assert "Do soft targets beat plain text at equal samples?" in page[: page.index("<h2>")]
    assert "ROUGE" in page
    assert "Answers compared with the data set&#39;s own" in page


def test_scores_without_reference_answers_are_left_out(tmp_path: Path, pictures: Path) -> None:
    runs = make_runs(caches=("top64", "hidden")).assign(bleu=None, rouge_l=None)
    page = make_report(tmp_path, runs, make_references(), None, pictures=pictures).read_text()
    assert "Answers compared with" not in page


def test_an_older_study_is_reported(tmp_path: Path, pictures: Path) -> None:
    references = make_references()
    for name in ("methods", "caches", "searches"):
        del references[name]
    del references["teachers"]["smol"]["ece"]
    page = make_report(tmp_path, make_runs(), references, None, pictures=pictures).read_text()
    assert "At equal samples" in page
    assert "<h3>Searches" not in page
    assert "<h3>What a smaller cache costs" not in page


def test_hostile_settings_are_escaped(tmp_path: Path, pictures: Path) -> None:
    runs = make_runs(caches=("top64", "hidden"))
    runs["cache"] = runs["cache"].replace("top64", EVIL)
    references = make_references()
    references["caches"][EVIL] = references["caches"].pop("top64")
    references["caches"][EVIL]["manifest"] |= {"scheme": EVIL, "k": EVIL}
    references["caches"][EVIL]["manifest"]["teachers"][0]["teacher"] = EVIL
    references["methods"][EVIL] = {"ce": 1.0, "search": EVIL, "train": {EVIL: EVIL}}
    search = references["searches"].pop("rates")
    search["settings"][EVIL] = 1.0
    references["searches"][EVIL] = search
    page = make_report(tmp_path, runs, references, None, pictures=pictures).read_text("utf-8")
    assert "<script" not in page
    assert "<img src=https" not in page
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e]", page)
    assert page.count("&lt;script&gt;") > 5


def test_a_table_of_ones_own_is_reported(tmp_path: Path) -> None:
    runs = make_runs()[["student", "method", "samples", "loss"]]
    page = make_report(tmp_path, runs, None, None).read_text("utf-8")
    assert "came without the teacher's own scores" in page
    assert "Pass rates" not in page
    assert "What they write" not in page
    assert "column total_flops is missing" in page


def test_hostile_names_are_escaped(tmp_path: Path, pictures: Path) -> None:
    runs = make_runs()
    runs["student"] = runs["student"] + "<b>\u202e"
    page = make_report(tmp_path, runs, make_references(), None, pictures=pictures).read_text(
        "utf-8"
    )
    assert "<b>" not in page
    assert "layers-2&lt;b&gt;⟨U+202E⟩" in page


def test_a_missing_figure_is_named(tmp_path: Path) -> None:
    answers = answers_of(make_runs(), None)
    template = REPORT / "report.html.j2"
    with pytest.raises(UserError, match=r"perplexity\.svg"):
        write_report(
            make_runs(),
            None,
            answers,
            None,
            [tmp_path / "perplexity.svg"],
            REPORT,
            template,
            tmp_path / "out.html",
        )


def test_every_column_is_defined() -> None:
    assert list(COLUMNS) == TABLE_COLUMNS
    assert set(COLUMNS) > set(MEASURED)


def test_visible_keeps_ordinary_text() -> None:
    text = "Grüße, 東京!\n\tα ≤ β 👍"
    assert visible(text) == text
    assert visible("a\r\nb\ud800") == "a\nb⟨U+D800⟩"


def test_quality_per_kwh_stands_beside_its_front(tmp_path: Path, pictures: Path) -> None:
    runs, references = make_runs(caches=("top64", "hidden")), make_references()
    answers = answers_of(runs, references, questions=[*OF_SAMPLES, *OF_ALL])
    out, template = tmp_path / "report.html", REPORT / "report.html.j2"
    drawn = sorted(pictures.glob("*.svg"))
    write_report(runs, references, answers, None, drawn, REPORT, template, out)
    page = out.read_text(encoding="utf-8")
    costs = page[page.index("What it cost") : page.index("What this study may not claim")]
    assert costs.index('id="figure-pareto"') < costs.index("<h3>Quality per kWh</h3>")
    assert "quality per kWh, estimated" in costs
    assert "How much quality does a kWh give?" in page
    assert page.count('id="figure-pareto"') == 1
    # A cell by hand: layers-2 · sft at n = 64, from unigram 6.4 nats to the teacher's 0.95.
    cell = runs[(runs["student"] == "layers-2") & (runs["method"] == "sft")]
    cell = cell[cell["samples"] == 64]
    each = (6.4 - cell["loss"]) / (6.4 - 0.95) / cell["total_kwh_amortised"]
    assert number(float(np.exp(np.log(each).mean()))) in costs


def test_a_study_without_energy_has_no_such_section(tmp_path: Path, pictures: Path) -> None:
    runs = make_runs(caches=("top64", "hidden"))
    runs[[name for name in runs if "kwh" in name]] = np.nan
    references = make_references()
    answers = answers_of(runs, references, questions=[*OF_SAMPLES, *OF_ALL])
    out, template = tmp_path / "report.html", REPORT / "report.html.j2"
    drawn = draw_all(tmp_path, runs, references)
    write_report(runs, references, answers, None, drawn, REPORT, template, out)
    page = out.read_text(encoding="utf-8")
    assert "kWh" not in (tmp_path / "pareto.csv").read_text()
    assert 'id="figure-pareto"' in page
    assert "<h3>Quality per kWh</h3>" not in page
    assert "Cannot tell, because column total_kwh_amortised is empty" in page


def test_of_many_runs_the_first_are_listed(
    tmp_path: Path, pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report_runs, "MOST_LISTED", 5)
    runs = make_runs(caches=("top64", "hidden"))
    out = make_report(tmp_path, runs, make_references(), make_samples(), pictures=pictures)
    page = out.read_text(encoding="utf-8")
    assert "only the first draw and seed are listed here" in page
    assert "All of them are in <code>references.json</code>" in page
    assert "These are the first; all are in <code>references.json</code>" in page
    table = page[page.index("<h2>Pass rates</h2>") : page.index("Paired comparisons")]
    assert "0 / 0" in table
    assert "1 / 0" not in table
