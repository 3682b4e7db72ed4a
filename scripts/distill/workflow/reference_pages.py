"""Reference pages generated from the code: config keys, runs table, sound pairs."""

import json
from pathlib import Path
from typing import Any

import yaml

from distill.config.checks.soundness import table
from distill.config.own_table import TableStudy
from distill.config.study import Study
from distill.contracts.columns import COLUMNS
from distill.contracts.divergences import DIVERGENCES, Divergence
from distill.contracts.energy import WATTS_PER_CPU

_SECTIONS = {
    "sources": "Source",
    "sources.<name>.templates": "Template",
    "sources.<name>.templates.checks": "AnswerChecks",
    "prompts": "Prompts",
    "corpus": "Corpus",
    "corpus.mask": "Mask",
    "teachers": "Teacher",
    "teachers.<name>.trained": "Trained",
    "teachers.<name>.server": "Server",
    "students": "Student",
    "students.<name>.vocabulary": "VocabularySize",
    "curations": "Curation",
    "curations.<name>.length": "LengthFilter",
    "curations.<name>.language": "LanguageFilter",
    "curations.<name>.teacher_loss": "LossFilter",
    "curations.<name>.near_duplicates": "DuplicateFilter",
    "curations.<name>.corrupt": "Corruption",
    "caches": "Cache",
    "caches.<name>.hidden": "LayerStates",
    "methods": "Method",
    "methods.<name>.hidden": "LayerLoss",
    "methods.<name>.embedding": "EmbeddingLoss",
    "methods.<name>.on_policy": "OnPolicy",
    "searches": "Search",
    "searches.<name>.space.<setting>": "Range",
    "train": "Train",
    "train.width_rule": "WidthRule",
    "train.early_stopping": "EarlyStopping",
    "train.lora": "Lora",
    "evaluate": "Evaluate",
    "evaluate.reference": "Reference",
    "evaluate.instructions": "Instructions",
    "evaluate.instructions.checks": "AnswerChecks",
    "evaluate.answers": "Answers",
    "evaluate.combined_weights": "Weights",
    "evaluate.prices": "Prices",
    "evaluate.benchmarks.<task>": "Benchmark",
    "runs": "Block",
    "runs_table": "RunsTable",
    "runs_table.columns": "TableColumns",
    "runs_table.units": "TableUnits",
}
EXAMPLES = Path(__file__).parents[3] / "docs/reference/examples.yaml"
"""One value of each key, by section."""
_NAMED = {"sources", "teachers", "students", "curations", "caches", "methods", "searches"}


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
    return {
        "string": "text",
        "integer": "whole number",
        "number": "number",
        "object": "mapping",
        "boolean": "yes or no",
    }[entry["type"]]


def _flow(value: Any) -> str:
    """A value as YAML on one line."""
    if isinstance(value, str) and "\n" in value:
        return json.dumps(value, ensure_ascii=False)
    text = yaml.safe_dump(value, default_flow_style=True, width=10_000, sort_keys=False)
    return text.removesuffix("\n...\n").strip()


def read_examples() -> dict[str, dict[str, Any]]:
    """An example value of each config key, by section; those of divergences are in their rows."""
    examples: dict[str, dict[str, Any]] = yaml.safe_load(EXAMPLES.read_text(encoding="utf-8"))
    rows: dict[str, Any] = {}
    for row in DIVERGENCES.values():
        rows |= {row.name: 1.0}
        rows |= {row.parameter.key: row.parameter.example} if row.parameter else {}
    hard = {"ce": examples["methods"].pop("ce")}
    return examples | {"methods": {**hard, **rows, **examples["methods"]}}


def page_text() -> str:
    """The page that lists every key."""
    definitions = Study.model_json_schema()["$defs"] | TableStudy.model_json_schema()["$defs"]
    examples = read_examples()
    lines = [
        "# Every key of a config",
        "",
        "One config file is one study. Unknown keys, unknown names and impossible combinations are",
        "errors before any job starts. For completion in an editor, put",
        "`# yaml-language-server: $schema=docs/reference/config.schema.json` on the first line.",
        "",
        "Top level: `study` (a name: letters, digits, `_`, `-`, `.`), `task` (`instruction`: the",
        "models answer `prompts`; `causal-lm`, `masked-lm`: they read a `corpus` instead), and the",
        "sections below. `distill reference` generates this page.",
    ]
    for section, model in _SECTIONS.items():
        definition = definitions[model]
        mark = f"{section}.<name>" if section in _NAMED else section
        lines += ["", f"## `{mark}`", "", definition["description"].split("\n\n")[0], ""]
        lines += ["| key | kind | default | example | meaning |", "|---|---|---|---|---|"]
        required = definition.get("required", [])
        for key, entry in definition["properties"].items():
            default = "required" if key in required else f"`{json.dumps(entry.get('default'))}`"
            if "default" not in entry and key not in required:
                default = "none"
            meaning = entry["description"].replace("|", "\\|")
            example = f"`{_flow(examples[section][key])}`"
            lines.append(f"| `{key}` | {_type(entry)} | {default} | {example} | {meaning} |")
    return "\n".join(lines) + "\n"


def table_text() -> str:
    """The page that describes the columns of the runs table."""
    lines = [
        "# The runs table",
        "",
        "`results/<study>/runs.parquet` and `runs.csv`: one row per run, the same columns in every",
        "study. MEASURED columns depend on the clock or the machine: the only ones that may",
        "differ between two runs of the same study. A column is null where it does not apply.",
        "A study with benchmarks has two more columns for each at the end: `benchmark_<task>`, the",
        "score, and `benchmark_<task>_stderr`, its standard error over the task's documents; both",
        "are null for a run without that benchmark.",
        "",
        "Energy is measured per job: the counters of its GPUs (NVML), and the processors' counters",
        "(RAPL) times the job's share of busy processor time. Without readable counters it is",
        f"estimated: {WATTS_PER_CPU:g} W per busy processor thread, and a GPU's power limit.",
        "`kwh_estimated` is the estimated part. Energy is null if a part is unknown: that of a",
        "server, of a GPU without NVML, or of a job of an earlier version. It excludes cooling,",
        "power supplies and the pretraining of models. `training.json` and `metrics.json` hold",
        "`energy_kwh`, `energy_kwh_estimated`, `energy_from` (measured, or estimated if any part",
        "is) and `energy_watts_per_cpu`, the watts that the estimate assumed.",
        "",
        "`distill reference` generates this page.",
        "",
        "| column | meaning | unit | |",
        "|---|---|---|---|",
    ]
    for row in COLUMNS.values():
        marks = ["MEASURED"] * row.measured + ["may be null"] * row.nullable
        marks += [f"null without evaluate.{row.null_without}"] * bool(row.null_without)
        marks += [f"null in {' and '.join(row.null_in)}"] * (not row.nullable and row.null_in != ())
        lines.append(f"| `{row.name}` | {row.meaning} | {row.unit} | {', '.join(marks)} |")
    return "\n".join(lines) + "\n"


def sound_pairs_text() -> str:
    """The page that lists which loss may read which soft targets."""
    lines = [
        "# Which losses may read which soft targets",
        "",
        "Pairs that are not in the table are errors before any job starts. Losses are keys of a",
        "method, schemes are those of a cache; temperatures are relative to q, the teacher's",
        "sampling distribution. `distill reference` generates this page.",
        "",
        table(),
        "## Divergences",
        "",
        "Divergences compare the student's distribution s with the teacher's p, both at the",
        "method's temperature.",
        "",
        "| key | divergence | definition | unit | source |",
        "|---|---|---|---|---|",
        *map(_divergence_line, DIVERGENCES.values()),
    ]
    return "\n".join(lines) + "\n"


_SIGNS = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<"}


def _divergence_line(row: Divergence) -> str:
    keys = f"`{row.name}`"
    if number := row.parameter:
        limits = ", ".join(f"{_SIGNS[sign]} {limit:g}" for sign, limit in number.limits.items())
        keys += f", `{number.key}` ({limits}; default {number.default:g})"
    cells = (keys, row.meaning, row.definition, row.unit, f"[{row.source}]({row.paper})")
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"
