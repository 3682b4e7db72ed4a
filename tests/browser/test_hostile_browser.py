"""The report of trained students, every text of which is hostile, in a real browser."""

import os
from pathlib import Path

import pytest

from browsers import find_browser
from distill.contracts.run import Run
from distill.table.benchmarks import benchmark_summary, with_benchmarks
from hostile_text import ALL, check_figures, check_page, poisoned
from report_page import make_report
from synthetic_runs import make_references, make_runs, make_samples

pytestmark = pytest.mark.workflow


def hostile_report(folder: Path) -> Path:
    """Names, answers, settings, scores, versions and warnings are hostile."""
    names = {name: f"{name} {ALL}" for name in ("smol", "layers-2", "kd", "top64")}
    names |= dict.fromkeys(("2 cores, x86_64", "2.9.0", "top_k_tail", "acc"), ALL)
    runs = make_runs(caches=("top64", "hidden"))
    references, samples = make_references(), make_samples()
    references["warnings"].append(ALL)
    record = {"value": 0.6, "stderr": 0.05, "documents": None, "chance": 0.25, "n": 100, "cut": 3,
              "metric": "acc", "filter": ALL, "fewshot": 5, "version": 1, "documents_sha256": "",
              "higher_is_better": True, "spec": {"limit": None}}  # fmt: skip
    judged = Run("layers-2", "smol", "kd", "none", "top64", 1024, 0, 0)
    scores = {(judged, "quiz"): record}
    references["benchmarks"] = benchmark_summary(["quiz"], scores, {("smol", "quiz"): record})
    runs = with_benchmarks(runs, ["quiz"], scores)
    runs = runs.replace(dict.fromkeys(("teacher", "student", "method", "cache"), names))
    samples["prompts"][0] |= {"id": ALL, "prompt": ALL, "teacher": {ALL: ALL}}
    return make_report(folder, runs, poisoned(references, names), poisoned(samples, names))


def test_hostile_text_is_shown_and_does_nothing(tmp_path: Path) -> None:
    path = find_browser()
    if not os.environ.get("CI"):
        pytest.importorskip("playwright.sync_api")
    from playwright.sync_api import sync_playwright

    report = hostile_report(tmp_path)
    check_figures(tmp_path, 10)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        check_page(browser, report, scripts=0)
        browser.close()
