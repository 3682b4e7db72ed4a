"""The report's interactive section in a real browser: words against the laws, phone, print."""

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from browsers import find_browser
from distill.ask.study import make_study
from distill.ask.subject import find_subject
from distill.contracts.figures import FIGURES
from distill.figures.draw import draw_figure
from distill.figures.figure import Inputs
from distill.report.page import write_report
from hostile_text import ALL, MORE, check_figures, check_page, poisoned
from size_study import TOKENS_PER_SAMPLE, size_laws, size_runs
from synthetic_runs import make_references

pytestmark = pytest.mark.workflow
REPORT = Path(__file__).parents[2] / "report"
PHONE = 360


def _blank(path: Path) -> Path:
    """Write a figure without marks, with numbers beside it."""
    path.write_text('<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>')
    path.with_suffix(".csv").write_text("x\n1\n")
    return path


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("panel")
    pictures = [_blank(folder / f"{name}.svg") for name in FIGURES]
    out = folder / "report.html"
    template = REPORT / "report.html.j2"
    references = {**make_references(), "teachers": {}, "unigram_entropy": {}}
    answers: dict[str, Any] = {"schema": 1, "answers": []}
    write_report(
        size_runs(), references, answers, None, pictures, REPORT, template, out, size_laws()
    )
    return out


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    path = find_browser()
    if not os.environ.get("CI"):
        pytest.importorskip("playwright.sync_api")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield opened
        opened.close()


def _open(browser: Any, report: Path, width: int, **more: Any) -> tuple[Any, list[str]]:
    """A page, and what it said or asked for that it should not."""
    context = browser.new_context(
        offline=True, viewport={"width": width, "height": 740}, locale="de-DE", **more
    )
    page = context.new_page()
    faults: list[str] = []

    def note(request: Any) -> None:
        if not request.url.startswith("data:") and request.url != report.as_uri():
            faults.append(request.url)

    page.on("console", lambda message: faults.append(message.text))
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("request", note)
    page.goto(report.as_uri())
    page.wait_for_load_state("load")
    return page, faults


def _move(page: Any, slider: str, value: int) -> None:
    page.eval_on_selector(
        slider, f"e => {{ e.value = {value}; e.dispatchEvent(new Event('input')); }}"
    )


def _numbers(words: str) -> dict[str, float]:
    """Samples, loss and interval ends that the words say."""
    (samples,) = re.findall(r"([\d,]+) samples", words)
    pattern = (
        r"loss ([\d.]+) nats per token \(90 % interval ([\d.]+) to ([\d.]+) for the mean over "
        r"runs, ([\d.]+) to ([\d.]+) for a new run\)\. Perplexity ([\d.]+)"
    )
    (found,) = re.findall(pattern, words)
    names = ("value", "low", "high", "run_low", "run_high", "perplexity")
    return {"samples": float(samples.replace(",", ""))} | dict(
        zip(names, map(float, found), strict=True)
    )


def test_the_words_say_what_the_laws_predict(browser: Any, report: Path) -> None:
    page, faults = _open(browser, report, 1100)
    study = make_study(size_runs(), size_laws())
    spread = []
    for group, label in zip(study.groups, ("sft", "kd · top64"), strict=True):
        page.select_option("#ask-group", label=label)
        for name in ("d6", "d80", "any size"):
            page.select_option("#ask-student", label=name)
            for size_bar, bar in ((130, 200), (610, 490), (900, 780)):
                if name == "any size":
                    _move(page, "#ask-size", size_bar)
                _move(page, "#ask-data", bar)
                words = page.inner_text("#ask-words")
                said = _numbers(words)
                (size,) = re.findall(r"([\d,]+) parameters|([\d.]+ × 10⁷) parameters", words)
                params = float(size[0].replace(",", "") or size[1].replace(" × 10⁷", "e7"))
                subject = (
                    find_subject(study, group, size=params)
                    if name == "any size"
                    else find_subject(study, group, name)
                )
                at = subject.predict(said["samples"] * TOKENS_PER_SAMPLE)
                for key in ("value", "low", "high", "run_low", "run_high"):
                    spread.append(said[key] / getattr(at, key)[0] - 1)
                assert said["perplexity"] == pytest.approx(np.exp(at.value[0]), rel=0.01)
    assert np.abs(spread).max() < 0.002
    assert faults == []


def test_keyboard_labels_warnings_and_exact_numbers(browser: Any, report: Path) -> None:
    page, faults = _open(browser, report, 1100)
    assert page.get_by_label("Student", exact=True).is_visible()
    assert not page.is_visible("#ask-size")
    data = page.get_by_label("Samples", exact=True)
    data.focus()
    before = page.inner_text("#ask-words")
    page.keyboard.press("ArrowLeft")
    assert page.inner_text("#ask-words") != before
    assert data.get_attribute("aria-valuetext").endswith(" samples")
    assert page.get_attribute("#ask-words", "aria-live") == "polite"
    exact = page.get_by_label("Samples, exact")
    exact.fill("40000")
    exact.press("Enter")
    assert _numbers(page.inner_text("#ask-words"))["samples"] == 40_000
    assert "Inside what the law was fitted to." in page.inner_text("#ask-words")
    exact.fill("160000")
    exact.press("Enter")
    assert "a factor of 2.00 outside" in page.inner_text("#ask-words")
    exact.fill("800000")
    exact.press("Enter")
    assert "extrapolated by a factor of 10.0, more than 4" in page.inner_text("#ask-words .warning")
    exact.fill("1e99")
    exact.press("Enter")
    assert float(exact.input_value()) == pytest.approx(80_000 * 16, rel=1e-4)
    assert faults == []


def test_it_fits_a_phone_and_prints_without_controls(browser: Any, report: Path) -> None:
    page, faults = _open(browser, report, PHONE, color_scheme="dark")
    page.select_option("#ask-student", label="any size")
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE
    widths = page.eval_on_selector_all(
        ".ask input, .ask select, #ask-words",
        "all => all.map(e => e.getBoundingClientRect().right)",
    )
    assert max(widths) <= PHONE
    accent = page.evaluate("getComputedStyle(document.querySelector('#ask-data')).accentColor")
    assert accent == "rgb(86, 180, 233)"
    page.emulate_media(media="print")
    assert not page.is_visible(".ask-controls")
    assert page.is_visible("#ask-words")
    assert faults == []


def test_no_other_script_can_run(browser: Any, report: Path, tmp_path: Path) -> None:
    planted = tmp_path / "planted.html"
    text = report.read_text().replace("</main>", "<script>document.title='owned'</script></main>")
    planted.write_text(text)
    page, faults = _open(browser, planted, 900)
    assert page.title() != "owned"
    assert "expected loss" in page.inner_text("#ask-words")
    assert any("Content Security Policy" in fault for fault in faults)


def test_hostile_names_in_laws_and_the_panel_do_nothing(browser: Any, tmp_path: Path) -> None:
    names = {"kd": f"kd {ALL}", "sft": MORE[0], "d24": f"d24 {ALL}", "random": MORE[-2]}
    runs = size_runs().replace(dict.fromkeys(("student", "method", "init"), names))
    laws = poisoned(size_laws(), names)
    references = {**make_references(), "teachers": {}, "unigram_entropy": {}}
    pictures = [_blank(tmp_path / f"{name}.svg") for name in FIGURES]
    for name in ("law_curves", "exponents"):
        paths = [tmp_path / f"{name}.{end}" for end in ("svg", "png", "csv")]
        draw_figure(name, Inputs(runs, references, laws), *paths)
    check_figures(tmp_path, 2)
    answers: dict[str, Any] = {"schema": 1, "answers": []}
    out, template = tmp_path / "report.html", REPORT / "report.html.j2"
    write_report(runs, references, answers, None, pictures, REPORT, template, out, laws)
    check_page(browser, out, scripts=2)
