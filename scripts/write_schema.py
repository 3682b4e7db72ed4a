"""Write the config's JSON schema, its page and the runs table's page from the code.

    python scripts/write_schema.py

A test fails when one of them differs from what the code says.
"""

import json
import sys
from pathlib import Path
from typing import Any

from distill.columns import COLUMNS, MEASURED, NULLABLE
from distill.config import Study
from distill.files import write_text

ROOT = Path(__file__).resolve().parent.parent
SCHEMA, PAGE = ROOT / "docs/config.schema.json", ROOT / "docs/config.md"
TABLE_PAGE = ROOT / "docs/runs_table.md"

_SECTIONS = {
    "sources": "Source",
    "prompts": "Prompts",
    "teachers": "Teacher",
    "students": "Student",
    "methods": "Method",
    "train": "Train",
    "evaluate": "Evaluate",
    "evaluate.reference": "Reference",
    "evaluate.combined_weights": "Weights",
    "runs": "Block",
}
_NAMED = {"sources", "teachers", "students", "methods"}


def schema_text() -> str:
    """The JSON schema of a config."""
    return json.dumps(Study.model_json_schema(), indent=1, ensure_ascii=False) + "\n"


def _type(entry: dict[str, Any]) -> str:
    if "anyOf" in entry:
        kinds = [_type(option) for option in entry["anyOf"] if option.get("type") != "null"]
        return " or ".join(kinds)
    if "$ref" in entry:
        return "section"
    if "enum" in entry:
        return ", ".join(f"`{value}`" for value in entry["enum"])
    if "const" in entry:
        return f"`{entry['const']}`"
    if entry.get("type") == "array":
        return f"list of {_type(entry['items'])}"
    return {"string": "text", "integer": "whole number", "number": "number", "object": "mapping"}[
        entry["type"]
    ]


def page_text() -> str:
    """The page that lists every key."""
    definitions = Study.model_json_schema()["$defs"]
    lines = [
        "# Every key of a config",
        "",
        "One config file is one study. Unknown keys, names that lead nowhere and impossible",
        "combinations are refused before the first job. For completion in an editor, put",
        "`# yaml-language-server: $schema=docs/config.schema.json` on the first line.",
        "",
        "Top level: `study` (a name: letters, digits, `_`, `-`, `.`), `task` (`instruction`), and",
        "the sections below. This page is written by `python scripts/write_schema.py`.",
    ]
    for section, model in _SECTIONS.items():
        definition = definitions[model]
        mark = f"{section}.<name>" if section in _NAMED else section
        lines += ["", f"## `{mark}`", "", definition["description"].split("\n\n")[0], ""]
        lines += ["| key | kind | default | meaning |", "|---|---|---|---|"]
        required = definition.get("required", [])
        for key, entry in definition["properties"].items():
            default = "required" if key in required else f"`{json.dumps(entry.get('default'))}`"
            if "default" not in entry and key not in required:
                default = "none"
            meaning = entry.get("description", "").replace("|", "\\|")
            lines.append(f"| `{key}` | {_type(entry)} | {default} | {meaning} |")
    return "\n".join(lines) + "\n"


def table_text() -> str:
    """The page that describes the columns of the runs table."""
    lines = [
        "# The runs table",
        "",
        "`results/<study>/runs.parquet` and `runs.csv`: one row per run, the same columns in every",
        "study. MEASURED columns depend on the clock or the machine: the only ones that may",
        "differ between two runs of the same study. A column is null where it does not apply.",
        "This page is written by `python scripts/write_schema.py`.",
        "",
        "| column | meaning | |",
        "|---|---|---|",
    ]
    for name, meaning in COLUMNS.items():
        marks = ["MEASURED"] * (name in MEASURED) + ["may be null"] * (name in NULLABLE)
        lines.append(f"| `{name}` | {meaning} | {', '.join(marks)} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    write_text(SCHEMA, schema_text())
    write_text(PAGE, page_text())
    write_text(TABLE_PAGE, table_text())
    sys.exit(0)
