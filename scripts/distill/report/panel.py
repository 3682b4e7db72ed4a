"""The report's interactive section: markup, style and script, with the grid embedded as JSON.

The script is the page's only one: the page's policy names its hash, so that nothing else can run.
"""

import base64
import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd
from markupsafe import Markup

from distill.ask.study import make_study
from distill.core.errors import UserError
from distill.report.grid import law_grid

FILES = ("law_panel.html.j2", "law_panel.css", "law_panel.js")
"""Files of the report folder that the section is made of."""


@dataclass(frozen=True)
class Panel:
    """What the page's template shows.

    Attributes:
        policy: Of scripts, for the page's Content-Security-Policy; "" without a script.
        style: Of the section, for the page's head.
        html: The section.
    """

    policy: str
    style: Markup
    html: Markup


def make_panel(
    runs: pd.DataFrame,
    laws: Mapping[str, Any] | None,
    references: Mapping[str, Any] | None,
    folder: str | Path,
    visible: Callable[[str], str],
) -> Panel:
    """The interactive section of a study.

    Args:
        runs: The runs table.
        laws: laws.json; None for no section.
        references: references.json or None.
        folder: Holds `FILES`.
        visible: Makes invisible characters of a text visible.

    Raises:
        UserError: A file of the section is missing.
    """
    if laws is None:
        return Panel("", Markup(), Markup())
    missing = [name for name in FILES if not (Path(folder) / name).is_file()]
    if missing:
        raise UserError(f"{Path(folder) / missing[0]} is missing; the report is made from it")
    html, style, script = ((Path(folder) / name).read_text(encoding="utf-8") for name in FILES)
    grid = _shown(law_grid(make_study(runs, laws, references)), visible)
    usable = bool(grid["groups"])
    page = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    ).from_string(html)
    rendered = page.render(
        usable=usable, refused=grid["refused"], data=embedded(grid), script=Markup(script)
    )
    return Panel(
        policy=f"script-src 'sha256-{_digest(script)}'; " if usable else "",
        style=Markup(style),
        html=Markup(rendered),
    )


def _shown(value: Any, visible: Callable[[str], str]) -> Any:
    """Every text of a record made visible."""
    if isinstance(value, str):
        return visible(value)
    if isinstance(value, dict):
        return {_shown(key, visible): _shown(entry, visible) for key, entry in value.items()}
    return [_shown(entry, visible) for entry in value] if isinstance(value, list) else value


def embedded(record: Any) -> Markup:
    """JSON that can stand in a script element: no text in it can end the element."""
    text = json.dumps(record, allow_nan=False, ensure_ascii=True, separators=(",", ":"))
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)


def _digest(script: str) -> str:
    """The hash by which a policy names an inline script, base64 of SHA-256."""
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")
