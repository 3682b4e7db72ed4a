"""Hostile text for every place that a model, a data set, a config or a table writes to, and what a
real browser must make of it: it is shown, and neither runs, nor loads, nor hides."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from synthetic_runs import EVIL

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


def check_page(browser: Any, report: Path, scripts: int) -> None:
    """A report full of `ALL` in a browser: it has so many scripts, and shows the text."""
    page = browser.new_context(offline=True, viewport={"width": PHONE, "height": 740}).new_page()
    faults: list[str] = []
    page.on("console", lambda message: faults.append(message.text))
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("dialog", lambda dialog: faults.append(dialog.message))
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(report.as_uri())
    page.wait_for_load_state("load")
    page.evaluate("document.querySelectorAll('details').forEach(part => part.open = true)")
    page.wait_for_timeout(300)
    assert faults == []
    assert {url for url in asked if not url.startswith("data:")} == {report.as_uri()}
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


def check_figures(folder: Path, least: int) -> None:
    """The figures of a report hold no script, link or picture from elsewhere."""
    drawn = sorted(folder.glob("*.svg"))
    assert len(drawn) >= least
    for file in drawn:
        picture = file.read_text(encoding="utf-8")
        assert not re.search(r"<(script|foreignObject|a|image)\b|\son\w+=|href=\"[^#]", picture), (
            file
        )
