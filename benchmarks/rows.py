"""What a benchmark reports, and the table that is made of it."""

import json
import platform
import re
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from distill.runtime.device import hardware

HERE = Path(__file__).parent
RESULTS = HERE / "results.json"
PACKAGES = (
    "torch", "transformers", "accelerate", "snakemake", "trl", "xllamacpp", "torchtune",
    "liger-kernel", "numpy", "scipy",
)  # fmt: skip


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
        what: What was measured.
        against: What it was compared with, or the limit that it has.
        value: The figure as text, with its unit; where there are two sides, both.
        ratio: Ours over theirs where there are two sides (above 1: ours is better), else None.
        spread: Least and greatest ratio of the turns.
        target: What was aimed for, as text.
        met: Whether it was reached.
        remark: What a reader must know: why it was missed, what was equal.
        numbers: Everything measured, by side.
    """

    what: str
    against: str
    value: str
    target: str
    met: bool
    ratio: float | None = None
    spread: tuple[float, float] | None = None
    remark: str = ""
    numbers: Mapping[str, Any] = field(default_factory=dict)


def middle(values: Sequence[float]) -> tuple[float, tuple[float, float]]:
    """The median of ratios and their range."""
    return statistics.median(values), (min(values), max(values))


def machine() -> dict[str, Any]:
    """The machine and the versions that figures are of."""
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue  # a peer that does not run here: its row says so
    return hardware() | {"python": platform.python_version(), "packages": versions}


def save(name: str, rows: Sequence[Row], seconds: float) -> None:
    """Put the rows of one benchmark into the file of results, in place of its earlier ones."""
    found = json.loads(RESULTS.read_text()) if RESULTS.is_file() else {}
    found[name] = {
        "date": datetime.now(UTC).date().isoformat(),
        "seconds": round(seconds),
        "machine": machine(),
        "rows": [asdict(row) for row in rows],
    }
    RESULTS.write_text(json.dumps(found, indent=1, sort_keys=True) + "\n")


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _short(ratio: float) -> str:
    return f"{ratio:,.0f}" if ratio >= 100 else f"{ratio:.2g}"


def table(results: Mapping[str, Any], order: Sequence[str]) -> tuple[str, str]:
    """The results as Markdown: a table with machines and versions below it, and the remarks."""
    lines = ["| what | against | measured | ratio | target | |", "|---|---|---|---|---|---|"]
    remarks, machines = [], []
    for name in order:
        if name not in results:
            continue
        entry = results[name]
        for row in entry["rows"]:
            ratio = ""
            if row["ratio"] is not None:
                low, high = row["spread"]
                ratio = f"{_short(row['ratio'])}×"
                ratio += f" ({_short(low)}–{_short(high)})" if low < high else ""
            cells = [row["what"], row["against"], row["value"], ratio, row["target"]]
            cells.append("reached" if row["met"] else "missed")
            lines.append("| " + " | ".join(map(_cell, cells)) + " |")
            if row["remark"]:
                remarks.append(f"- {row['what']} against {row['against']}: {_cell(row['remark'])}")
        of = entry["machine"]
        versions = ", ".join(f"{one} {number}" for one, number in of["packages"].items())
        text = f"{of['cpu']}, {of['cpus']} processors, Python {of['python']}, {versions}"
        if text not in machines:
            machines.append(text)
    lines += ["", "Measured on " + "; ".join(machines) + "."]
    return "\n".join(lines), "\n".join(remarks)


def page(results: Mapping[str, Any], order: Sequence[str]) -> str:
    """The page of results: the table and the remarks."""
    lines, remarks = table(results, order)
    return f"# Measured by `make bench`\n\n{lines}\n\n{remarks}\n"


def write_tables(order: Sequence[str]) -> None:
    """Write the page of results."""
    (HERE / "results.md").write_text(page(json.loads(RESULTS.read_text()), order))


def replace_table(page: Path, name: str, rows: list[str]) -> None:
    """Replace the rows of one table of a page, below the comment that names it."""
    text = page.read_text(encoding="utf-8")
    mark = re.compile(rf"(<!-- {name} -->\n(?:\|.*\n){{2}})(?:\|.*\n)*")
    page.write_text(mark.sub(lambda found: found[1] + "\n".join(rows) + "\n", text), "utf-8")
