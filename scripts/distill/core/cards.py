"""Cards: the README.md of a model or a data set, from a template in report/cards/."""

from pathlib import Path
from typing import Any

from distill.core.files import write_text

CARDS = Path(__file__).parents[3] / "report/cards"


def render_card(name: str, out: str | Path, **values: Any) -> None:
    """Write a card.

    Args:
        name: Name of the template, `<name>.md.j2`.
        out: Path of the card.
        values: All variables of the template; jinja2 raises an error if one is missing.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(CARDS),
        undefined=StrictUndefined,
        trim_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # Markdown
    )
    write_text(out, environment.get_template(f"{name}.md.j2").render(values))
