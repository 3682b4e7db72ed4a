"""The report in a real browser: no network, no scripts, no sideways scroll, printable."""

import os
from pathlib import Path

import pytest

from browsers import find_browser
from report_page import make_report
from synthetic_runs import make_references, make_runs, make_samples

pytestmark = pytest.mark.workflow
WIDTH = 375


def test_the_report_in_a_phone_sized_browser(tmp_path: Path) -> None:
    browser_path = find_browser()
    if not os.environ.get("CI"):
        pytest.importorskip("playwright.sync_api")
    from playwright.sync_api import sync_playwright

    runs = make_runs(caches=("top64", "hidden", "top4"))
    runs["method"] = runs["method"].replace("kd", "forward-kl-at-temperature-2-with-cross-entropy")
    report = make_report(tmp_path, runs, make_references(), make_samples())
    console: list[str] = []
    errors: list[str] = []
    requests: list[str] = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=browser_path, args=["--no-sandbox"])
        context = browser.new_context(offline=True, viewport={"width": WIDTH, "height": 740})
        page = context.new_page()
        page.on("console", lambda message: console.append(message.text))
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("request", lambda request: requests.append(request.url))
        page.goto(report.as_uri())
        page.wait_for_load_state("load")
        title = page.title()
        width = page.evaluate("document.documentElement.scrollWidth")
        names = page.evaluate(
            "[...document.querySelectorAll('tbody th')].map(x => x.getBoundingClientRect().width)"
        )
        images = page.evaluate("[...document.images].map(image => image.naturalWidth)")
        pdf = page.pdf()
        browser.close()
    assert [url for url in requests if not url.startswith(("file:", "data:"))] == []
    assert [url for url in requests if url.startswith("file:")] == [report.as_uri()]
    assert (console, errors) == ([], [])
    assert title == "synthetic: distillation report"
    assert width <= WIDTH
    assert max(names) < WIDTH / 2  # the first column stays in sight and leaves room for others
    assert images
    assert all(size > 0 for size in images)
    assert pdf.startswith(b"%PDF-")
