"""Hostile text in every place that a model, a data set, a config or a table writes to, in a real
browser: it is shown, and neither runs, nor loads, nor hides."""

import copy
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from distill.benchmark_table import benchmark_summary, with_benchmarks
from distill.drawing import draw_figure
from distill.figures import FIGURES, drawable
from distill.plan import Run
from distill.report import write_report
from distill.verdict import diminishing_returns
from size_study import size_laws, size_runs
from synthetic_runs import EVIL, make_references, make_runs, make_samples
from test_report_browser import find_browser

pytestmark = pytest.mark.workflow
REPORT = Path(__file__).parent.parent / "report"
PHONE = 375
MORE = (
    "</script><script>window.ran = 1</script>",
    "\"><svg onload='window.ran = 1'>",
    "<style>main { display: none }</style><base href='https://evil.example/'>",
    "<meta http-equiv=refresh content='0;url=https://evil.example'>",
    "<!-- <details> <pre> ]]> </title></textarea>",
    "[x](javascript:window.ran=1) {{ 7 * 7 }} {% raw %} ${7*7} <%= 7*7 %>",
    "&lt;b&gt; &#x202e; \\u003cscript\\u003e",
    "אבג 12 עברית",
    "$\\frac{a}{$ ^_ \\input{x}",
)
"""Beside `EVIL`: what else ends an element, loads, redirects, covers or is a template."""
ALL = EVIL + " ".join(MORE)


def poisoned(value: Any, names: Mapping[str, str]) -> Any:
    """A record with some of its texts, keys too, replaced."""
    if isinstance(value, str):
        return names.get(value, value)
    if isinstance(value, dict):
        return {names.get(key, key): poisoned(entry, names) for key, entry in value.items()}
    return [poisoned(entry, names) for entry in value] if isinstance(value, list) else value


def pictures(folder: Path, runs: Any, references: Any, laws: Any = None) -> None:
    """The figures that can be drawn."""
    for name in FIGURES:
        if drawable(name, runs, references, laws):
            paths = (folder / f"{name}.{end}" for end in ("svg", "png", "csv"))
            draw_figure(name, runs, references, *paths, laws=laws)


def write(folder: Path, runs: Any, references: Any, samples: Any, laws: Any = None) -> Path:
    """A report with its figures."""
    pictures(folder, runs, references, laws)
    answers = diminishing_returns(runs, references) if samples else {"schema": 1, "answers": []}
    out, template = folder / "report.html", REPORT / "report.html.j2"
    write_report(runs, references, answers, samples, folder, REPORT, template, out, laws)
    return out


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of trained students: names, answers, settings, scores, warnings."""
    names = {name: f"{name} {ALL}" for name in ("smol", "layers-2", "kd", "top64")}
    names |= {"2 cores, x86_64": ALL, "2.9.0": ALL, "top_k_tail": ALL, "acc": ALL}
    runs = make_runs(caches=("top64", "hidden"))
    references, samples = make_references(), make_samples()
    references["warnings"].append(ALL)
    record = {"value": 0.6, "stderr": 0.05, "documents": None, "chance": 0.25, "n": 100,
              "metric": "acc", "filter": ALL, "fewshot": 5, "version": 1, "cut": 3,
              "documents_sha256": "", "higher_is_better": True,
              "spec": {"limit": None}}  # fmt: skip
    judged = Run("layers-2", "smol", "kd", "none", "top64", 1024, 0, 0)
    references["benchmarks"] = benchmark_summary(
        ["quiz"], {(judged, "quiz"): record}, {("smol", "quiz"): record}
    )
    runs = with_benchmarks(runs, ["quiz"], {(judged, "quiz"): record})
    runs = runs.replace(dict.fromkeys(("teacher", "student", "method", "cache"), names))
    samples["prompts"][0] |= {"id": ALL, "prompt": ALL, "teacher": {ALL: ALL}}
    folder = tmp_path_factory.mktemp("study")
    return write(folder, runs, poisoned(references, names), poisoned(samples, names))


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of fitted laws, with the panel that asks them."""
    names = {"kd": f"kd {ALL}", "sft": MORE[0], "d24": f"d24 {ALL}", "random": MORE[-1]}
    runs = size_runs().replace(dict.fromkeys(("student", "method", "init"), names))
    references = {**make_references(), "teachers": {}, "unigram_entropy": {}}
    laws = poisoned(copy.deepcopy(size_laws()), names)
    return write(tmp_path_factory.mktemp("table"), runs, references, None, laws)


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


@pytest.mark.parametrize(("kind", "scripts"), [("study", 0), ("table", 2)])
def test_hostile_text_is_shown_and_does_nothing(
    browser: Any, kind: str, scripts: int, request: pytest.FixtureRequest
) -> None:
    report: Path = request.getfixturevalue(kind)
    page = browser.new_context(offline=True, viewport={"width": PHONE, "height": 740}).new_page()
    faults: list[str] = []
    page.on("console", lambda message: faults.append(message.text))
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("dialog", lambda dialog: faults.append(dialog.message))
    page.on(
        "request",
        lambda asked: (
            None
            if asked.url.startswith("data:") or asked.url == report.as_uri()
            else faults.append(asked.url)
        ),
    )
    page.goto(report.as_uri())
    page.wait_for_load_state("load")
    page.evaluate("document.querySelectorAll('details').forEach(part => part.open = true)")
    page.wait_for_timeout(300)
    assert faults == []
    assert page.title().endswith(": distillation report")
    assert page.url == report.as_uri()
    assert page.evaluate("window.ran") is None
    # Nothing but what the template writes: its scripts, one style, its pictures.
    kinds = page.evaluate("[...new Set([...document.querySelectorAll('*')].map(x => x.localName))]")
    assert not {"base", "iframe", "textarea", "b", "form", "object", "link"} & set(kinds)
    assert page.evaluate("document.scripts.length") == scripts
    assert page.evaluate("document.querySelectorAll('style').length") == 1
    assert page.evaluate("document.querySelectorAll('meta').length") == 4
    assert page.evaluate("[...document.images].every(x => x.src.startsWith('data:image/svg+xml'))")
    named = "[...document.querySelectorAll('*')].flatMap(x => [...x.attributes].map(y => y.name))"
    assert not [name for name in page.evaluate(named) if name.startswith("on")]
    assert page.evaluate("document.querySelector('main').getBoundingClientRect().height") > 3000
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE
    # What was written is there to be read, with nothing in it that cannot be seen.
    text = page.evaluate("document.querySelector('main').textContent")
    for shown in (MORE[0], "<img src=https://evil", "⟨U+001B⟩[31mred", "⟨U+202E⟩right", "{{ 7 * 7"):
        assert shown in text, shown
    assert not re.search(r"[\0-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]", text)
    page.close()


def test_figures_hold_no_script(study: Path, table: Path) -> None:
    drawn = [file for report in (study, table) for file in report.parent.glob("*.svg")]
    assert len(drawn) > 15
    for file in drawn:
        picture = file.read_text(encoding="utf-8")
        assert not re.search(r"<(script|foreignObject|a|image)\b|\son\w+=|href=\"[^#]", picture), (
            file
        )
