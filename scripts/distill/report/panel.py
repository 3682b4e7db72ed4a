"""The report's interactive section: markup, style and script, with the grid embedded as JSON.

The script is the page's only one: the page's policy names its hash, so that nothing else can run.
"""

import base64
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jinja2
import pandas as pd
from markupsafe import Markup

from distill.ask.study import make_study
from distill.core.display import visible
from distill.core.errors import UserError
from distill.report.grid import law_grid

FILES = ("law_panel.css", "law_panel.js", "law_panel.html.j2")
"""Files of the report folder that the section is made of."""


@dataclass(frozen=True)
class Panel:
    """What the page's template shows.

    Attributes:
        policy: Of scripts, for the page's Content-Security-Policy; "" without a script.
        style: Of the section, for the page's head.
        html: The section.
    """

    policy: str = ""
    style: str = ""
    html: str = ""


def make_panel(
    runs: pd.DataFrame,
    laws: Mapping[str, Any] | None,
    references: Mapping[str, Any] | None,
    environment: jinja2.Environment,
) -> Panel:
    """The interactive section of a study.

    Args:
        runs: The runs table.
        laws: laws.json; None for no section.
        references: references.json or None.
        environment: Of the report's templates.

    Raises:
        UserError: A file of the section is missing.
    """
    if laws is None:
        return Panel()
    folder = environment.loader
    assert folder is not None
    try:
        style, script, _ = (folder.get_source(environment, name)[0] for name in FILES)
        section = environment.get_template(FILES[-1])
    except jinja2.TemplateNotFound as error:
        raise UserError(f"{error.name} is missing; the report is made from it") from None
    distils = (references or {}).get("distils", True)
    study = make_study(runs, laws, references)
    grid = _visible(law_grid(study, "student" if distils else "model"))
    html = section.render(grid=grid, data=embedded(grid), script=Markup(script), distils=distils)
    policy = f"script-src 'sha256-{_digest(script)}'; " if grid["groups"] else ""
    return Panel(policy, Markup(style), Markup(html))


def _visible(value: Any) -> Any:
    """A record with the hidden characters of its texts made visible."""
    if isinstance(value, str):
        return visible(value)
    if isinstance(value, dict):
        return {_visible(key): _visible(entry) for key, entry in value.items()}
    return [_visible(entry) for entry in value] if isinstance(value, list) else value


def embedded(record: Any) -> Markup:
    """JSON that can stand in a script element: no text in it can end the element."""
    text = json.dumps(record, allow_nan=False, ensure_ascii=True, separators=(",", ":"))
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)


def _digest(script: str) -> str:
    """The hash by which a policy names an inline script, base64 of SHA-256."""
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")
