"""Write a study's report: one HTML file that needs no network and no other file.

Its only script is that of `distill.report.panel`, and the page's policy lets no other run.

All text that a model, a data set or a config wrote is escaped, and its control, terminal and
direction characters are replaced by visible ones, so it can neither run nor disguise itself.
"""

import base64
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
import pandas as pd
from markupsafe import Markup

from distill.answers.runs import doubling, energy_quality, extrapolation, falling, sweet_spot
from distill.contracts.columns import COLUMNS, MEASURED, benchmark_columns, columns_of
from distill.core.display import visible
from distill.core.errors import UserError
from distill.core.files import write_text
from distill.figures.figure import find_figure, read_caption
from distill.report.benchmarks import benchmark_section
from distill.report.laws import by_question, law_parts
from distill.report.methods import soft_section
from distill.report.panel import make_panel
from distill.stats.intervals import number, percent
from distill.table.lines import Line, has_values, lines_of, prepare_runs
from distill.table.words import words_of

RUN_TABLES = ("Quality", "Answers compared with the data set's own", "Training", "Scores")
COST_TABLES = ("FLOPs", "Seconds", "Energy")
"""Groups of columns that a table each shows."""
Table = dict[str, Any]
"""A table for the template: `columns` (name, measured), `rows` (texts)."""
MOST_LISTED = 400
"""Runs and tests that a page lists one by one; of more it shows the first, and says so."""


def write_report(
    runs: pd.DataFrame,
    references: dict[str, Any] | None,
    answers: dict[str, Any],
    samples: dict[str, Any] | None,
    figures: Sequence[str | Path],
    captions_dir: str | Path,
    template: str | Path,
    out: str | Path,
    laws: dict[str, Any] | None = None,
) -> None:
    """Write the report of a study as one self-contained HTML file.

    Args:
        runs: the runs table.
        references: references.json, or None for a table of one's own.
        answers: answers.json.
        samples: samples.json (responses written by models), or None.
        figures: `<name>.svg` of each figure of the study, its CSV beside it, in the page's order.
        captions_dir: holds `<name>.rst`, and the files of the interactive section.
        template: the Jinja template of the page.
        out: the HTML file to write.
        laws: laws.json; None for none.

    Raises:
        UserError: a figure, a caption or the template is missing, or the table lacks a column.
    """
    source = Path(template)
    if not source.is_file():
        raise UserError(f"{source} is missing; the report is made from this template")
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(source.parent),  # its sections are files of their own
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        # Markup is ours; every other text is made visible before it is escaped.
        finalize=lambda value: (
            visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value
        ),
    )
    environment.filters["number"] = number
    page = environment.get_template(source.name)
    trained = bool(runs["samples"].notna().any())
    context = _title(runs, references or {}, answers, trained) | law_parts(laws, answers)
    if trained:
        context |= _context(runs, references or {}, answers, samples or {})
    context["figures"] = _figures(figures, captions_dir)
    context["panel"] = make_panel(runs, laws, references, captions_dir, visible)
    write_text(out, page.render(context))


def _figures(paths: Sequence[str | Path], captions: str | Path) -> dict[str, dict[str, str]]:
    """Return what the page shows of each figure; one without numbers has only a reason."""
    out = {}
    for path in map(Path, paths):
        figure, numbers = find_figure(path.stem), path.with_suffix(".csv")
        if not (path.is_file() and numbers.is_file()):
            raise UserError(f"{path} or its CSV is missing; draw the figures first")
        data = base64.b64encode(path.read_bytes()).decode("ascii")
        with numbers.open(encoding="utf-8") as lines:
            is_empty = sum(1 for _ in zip(lines, range(2), strict=False)) < 2
        out[path.stem] = {
            "title": figure.title,
            "section": figure.section,
            "caption": read_caption(captions, path.stem),
            "source": f"data:image/svg+xml;base64,{data}",
            "empty": figure.empty if is_empty else "",
        }
    return out


def _context(
    runs: pd.DataFrame,
    references: dict[str, Any],
    answers: dict[str, Any],
    samples: dict[str, Any],
) -> dict[str, Any]:
    """Return everything that the template shows, figures apart."""
    table = prepare_runs(runs)
    lines = lines_of(table)
    asked = by_question(answers)
    return {
        "facts": _facts(table, lines, references),
        "words": words_of(table),
        "gains": _gains_table(asked.get(doubling.KEY, [])),
        "forecasts": _forecasts_table(asked.get(extrapolation.KEY, [])),
        "falls": _fall_warnings(asked.get(falling.KEY, [])),
        "soft": soft_section(lines, references, asked),
        "students": _students_table(table, lines, references),
        "run_tables": _run_tables(lines),
        "passes": _pass_section(table, lines, references),
        "benchmarks": benchmark_section(lines, references),
        "prompts": _prompts(samples),
        "checks": _checks(references),
        "costs": _costs(lines, references, asked.get(energy_quality.KEY, [])),
        "largest": int(table["samples"].max()),
        "spots": sorted(
            {
                answer["numbers"]["samples"]
                for answer in asked.get(sweet_spot.KEY, [])
                if answer["numbers"].get("samples")
            }
        ),
        "several_students": table["student"].nunique() > 1,
        "provenance": _provenance(table, references),
    }


def _title(
    runs: pd.DataFrame, references: dict[str, Any], answers: dict[str, Any], trained: bool
) -> dict[str, Any]:
    """Return what every page shows, that of a table of one's own too."""
    meanings = {
        row.name: row.meaning + (f"; {row.unit}" if row.unit else "") for row in COLUMNS.values()
    }
    for task in (references.get("benchmarks") or {}).get("tasks", ()):
        meanings |= benchmark_columns(task)
    studies = runs["study"].dropna().astype(str).unique() if "study" in runs else []
    name = references.get("study") or (studies[0] if len(studies) == 1 else "")
    return {
        "study": name or "Knowledge distillation",
        "trained": trained,
        "asked": by_question(answers),
        "definitions": [
            {"name": column, "meaning": meaning, "measured": column in MEASURED}
            for column, meaning in meanings.items()
            if column in runs and runs[column].notna().any()
        ],
        "rows": len(runs),
        "params": _extent(runs, "params"),
        "tokens": _extent(runs, "tokens_unique"),
    }


def _extent(runs: pd.DataFrame, column: str) -> str:
    """Write the lowest and highest value of a column."""
    if column not in runs:
        return "–"
    values = pd.to_numeric(runs[column], errors="coerce").dropna()
    values = values[values > 0]
    return "–" if values.empty else f"{number(values.min())} to {number(values.max())}"


def _columns(names: list[str]) -> list[dict[str, Any]]:
    return [
        {"name": name, "measured": name in MEASURED, "text": False, "wide": False} for name in names
    ]


def _facts(
    table: pd.DataFrame, lines: list[Line], references: dict[str, Any]
) -> list[tuple[str, str]]:
    """Return what was measured, as pairs of a name and a value."""
    trained, words = table[table["samples"] > 0], words_of(table)
    sizes = sorted(int(n) for n in trained["samples"].unique())
    repeats = [len(cell) for line in lines for _, cell in line.runs.groupby("samples")]
    facts = [
        ("Teacher", ", ".join(t for t in trained["teacher"].unique() if t)),
        ("Students", ", ".join(trained["student"].unique())),
        ("Methods", ", ".join(trained["method"].unique())),
        ("Soft targets", ", ".join(dict.fromkeys(x.cache for x in lines if x.reads_cache))),
        (f"Training {words.samples}", ", ".join(f"{n:,}" for n in sizes)),
        ("How to read the loss", words.note),
        (
            "Runs",
            f"{len(trained):,} trained students in {len(repeats):,} cells, "
            f"{sum(n > 1 for n in repeats):,} of which hold two runs or more; "
            f"{int((table['samples'] == 0).sum()):,} students scored before training",
        ),
    ]
    for name, teacher in references.get("teachers", {}).items():
        answers = teacher.get("responses") or {}
        if answers:
            facts.append(
                (
                    f"Text of {name}",
                    f"{number(answers.get('rows'))} responses, "
                    f"{number(answers.get('mean_tokens'))} tokens each on average",
                )
            )
        if memory := teacher.get("job_peak_memory_mb"):
            whose = "of the GPU" if teacher["job_peak_memory_of"] == "gpu" else "of its process"
            facts.append((f"Memory of {name}'s jobs", f"{number(memory)} MB {whose} at most"))
    floor = references.get("unigram_entropy") or {}
    for name, entropy in floor.items():
        facts.append(
            (
                f"Scale for {name}",
                f"knowing only how frequent tokens are costs {number(entropy)} nats per token; "
                f"the teacher itself {number(references['teachers'].get(name, {}).get('loss'))}",
            )
        )
    return [(name, value) for name, value in facts if value]


def _gains_table(answers: list[dict[str, Any]]) -> Table:
    """Return the gains per doubling of all lines."""
    rows = []
    for answer in answers:
        for step in answer["numbers"].get("gains_per_doubling", []):
            interval = "–"
            if step["loss_gain_low"] is not None:
                low, high = number(step["loss_gain_low"]), number(step["loss_gain_high"])
                interval = f"{low} to {high}"
            rows.append(
                [
                    answer["label"],
                    f"{step['from']:,} → {step['to']:,}",
                    number(step["loss_gain"]),
                    interval,
                    f"× {number(step['perplexity_ratio'])}",
                    number(step.get("gap_gain")),
                ]
            )
    names = ["student · method", "samples", "loss, nats", "90 % interval", "perplexity", "KL, nats"]
    return {"columns": _columns(names), "rows": rows}


def _forecasts_table(answers: list[dict[str, Any]]) -> Table:
    """Return predicted beside measured values of the largest size of each line."""
    names = ["student · method", "quantity", "samples", "predicted", "measured", "error"]
    rows = []
    for answer in answers:
        numbers = answer["numbers"]
        for key, quantity in (
            ("loss", "loss, nats"),
            ("perplexity", "perplexity"),
            ("gap", "KL, nats"),
        ):
            if numbers.get(f"predicted_{key}") is None:
                continue
            naive = numbers.get(f"relative_error_{key}_no_change")
            rows.append(
                [
                    answer["label"],
                    quantity,
                    f"{numbers['to']:,}",
                    number(numbers[f"predicted_{key}"], 4),
                    number(numbers[f"measured_{key}"], 4),
                    percent(numbers[f"relative_error_{key}"]),
                    _miss_word(numbers) if key == "loss" else "",
                    "" if naive is None else percent(naive),
                ]
            )
    return {"columns": _columns([*names, "judged", "no change"]), "rows": rows}


def _miss_word(numbers: dict[str, Any]) -> str:
    low, high = numbers["miss_nats_low"], numbers["miss_nats_high"]
    if low is None:
        return "no error bar"
    return "too high" if low > 0 else "too low" if high < 0 else "within noise"


def _fall_warnings(answers: list[dict[str, Any]]) -> list[str]:
    return [
        f"Perplexity does not fall everywhere for {answer['label']}: {answer['evidence']}"
        for answer in answers
        if answer["numbers"].get("rises")
    ]


def _run_tables(lines: list[Line]) -> list[dict[str, Any]]:
    """Return tables of means over the runs of a cell, with ± one sd where there are several."""
    out = []
    for title in RUN_TABLES:
        columns = [c for c in columns_of(title) if any(has_values(line.runs, c) for line in lines)]
        if not columns:
            continue
        rows = []
        for line in lines:
            for size in line.sizes:
                cell = line.runs[line.runs["samples"] == size]
                texts = [_mean_text(cell, column) for column in columns]
                rows.append([line.label, f"{size:,}", f"{len(cell)}", *texts])
        starts = pd.concat([line.before for line in lines])
        starts = starts[~starts.index.duplicated()]
        for student, before in starts.groupby("student", sort=False):
            texts = [_mean_text(before, column) for column in columns]
            rows.append([f"{student} before training", "0", f"{len(before)}", *texts])
        names = ["student · method", "samples", "runs", *columns]
        out.append({"title": title, "columns": _columns(names), "rows": rows})
    return out


def _mean_text(rows: pd.DataFrame, column: str) -> str:
    """Write the mean of a column, with its standard deviation where rows differ."""
    values = np.empty(0)
    if column in rows:
        values = pd.to_numeric(rows[column], errors="coerce").dropna().to_numpy(float)
    if not len(values):
        return "–"
    mean = float(values.mean())
    digits = COLUMNS[column].digits
    whole = bool((values % 1 == 0).all()) and mean % 1 == 0 and abs(mean) < 1e9
    text = number(int(mean)) if whole else number(mean, digits)
    if np.ptp(values) == 0:
        return text
    sd = float(values.std(ddof=1))
    if whole or "×" in text:
        return f"{text} ± {number(sd, 2)}"
    return f"{text} ± {sd:,.{len(text.partition('.')[2])}f}"


def _students_table(table: pd.DataFrame, lines: list[Line], references: dict[str, Any]) -> Table:
    """Return the properties of each student's architecture, and the teachers'."""
    columns = [
        c for c in columns_of("Students") if c in table and (c == "init" or has_values(table, c))
    ]
    rows = []
    for student in dict.fromkeys(line.student for line in lines):
        mine = table[table["student"] == student]
        texts = []
        for column in columns:
            if column == "init":
                texts.append(", ".join(mine["init"].dropna().astype(str).unique()) or "–")
            else:
                texts.append(_mean_text(mine, column))
        rows.append([student, *texts])
    for name, facts in references.get("teachers", {}).items():
        rows.append([f"{name} (teacher)", *(number(facts.get(c)) for c in columns)])
    return {"columns": _columns(["model", *columns]), "rows": rows}


def _pass_section(
    table: pd.DataFrame, lines: list[Line], references: dict[str, Any]
) -> dict[str, Any] | None:
    """Return the pass rates, their floor and the paired tests in words."""
    if not has_values(table, "pass_rate"):
        return None
    large = has_values(table, "pass_rate_large")
    names = ["student · method", "samples", "draw / seed", "pass_rate", "95 % interval"]
    rows = []
    few = sum(len(line.runs) for line in lines) <= MOST_LISTED
    for line in lines:
        shown = line.runs if few else line.runs[_first(line.runs)]
        for _, run in shown.sort_values(["samples", "draw", "seed"]).iterrows():
            rate = [line.label, f"{int(run['samples']):,}", f"{run['draw']} / {run['seed']}"]
            rows.append([*rate, *_rate_texts(run, large)])
    for student, before in _starts(lines):
        for _, run in before.iterrows():
            rows.append([f"{student} before training", "0", "–", *_rate_texts(run, large)])
    for name, facts in references.get("teachers", {}).items():
        rows.append([f"{name} (teacher)", "–", "–", *_rate_texts(facts, large)])
    floor = references.get("floor") or {}
    paired = references.get("paired") or []
    largest = max((test["samples"] for test in paired), default=0)
    tests = [test for test in paired if test["samples"] == largest]
    if len(tests) > MOST_LISTED:
        tests = [test for test in tests if not (test["draw"] or test["seed"])]
    return {
        "table": {
            "columns": _columns([*names, "pass_rate_large"] if large else names),
            "rows": rows,
        },
        "floor": {kind: _share(rate) for kind, rate in floor.items() if rate is not None},
        "tests": [_paired_words(test) for test in tests[:MOST_LISTED]],
        "few": few,
        "more_tests": len(tests) > MOST_LISTED or not few,
        "count": len(paired),
        "apart": sum(test["p_value"] < 0.05 for test in paired),
        "largest": largest,
    }


def _first(runs: pd.DataFrame) -> pd.Series:
    """Which runs have the least draw of their size, and of that the least seed."""
    order = runs["draw"] * (runs["seed"].max() + 1) + runs["seed"]
    return order == order.groupby(runs["samples"]).transform("min")


def _starts(lines: list[Line]) -> list[tuple[str, pd.DataFrame]]:
    return list({line.student: line.before for line in lines if len(line.before)}.items())


def _share(rate: Any) -> str:
    return "–" if rate is None or pd.isna(rate) else f"{100 * float(rate):.1f} %"


def _rate_texts(run: Any, large: bool) -> list[str]:
    low, high = run.get("pass_rate_low"), run.get("pass_rate_high")
    known = not (low is None or high is None or pd.isna(low) or pd.isna(high))
    texts = [_share(run.get("pass_rate")), f"{_share(low)} to {_share(high)}" if known else "–"]
    return [*texts, _share(run.get("pass_rate_large"))] if large else texts


def _who(run: Mapping[str, Any]) -> str:
    """Name a run by student and method, and by its curation if it has one."""
    curation = run.get("curation", "raw")
    return f"{run['student']} · {run['method']}" + ("" if curation == "raw" else f" · {curation}")


def _paired_words(test: Mapping[str, Any]) -> str:
    """Say a McNemar test in words."""
    against = "the canned answer" if test["against"] == "dummy" else test["against"]
    kind = "fixed" if test["set"] == "fixed" else "larger"
    clear = test["p_value"] < 0.05
    better = test["student"] if test["only_first"] > test["only_second"] else against
    end = f"{better} is better" if clear else "no difference can be told"
    return (
        f"{_who(test)} (n = {test['samples']:,}, draw {test['draw']}, seed "
        f"{test['seed']}) against {against} on the {kind} set: {test['only_first']} prompts "
        f"passed by the first alone, {test['only_second']} by the second alone; "
        f"p = {number(float(test['p_value']), 2)}, {end}."
    )


def _prompts(samples: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the qualitative table: per prompt, who answered what."""
    verdicts = {True: "passed", False: "failed"}
    out = []
    for entry in samples.get("prompts", []):
        answers = [
            {"who": f"{name} (teacher)", "verdict": "", "text": text}
            for name, text in entry.get("teacher", {}).items()
        ]
        for answer in entry.get("students", []):
            cache = answer.get("cache") or "none"
            read = "" if cache == "none" else f" · {cache}"
            who = f"{_who(answer)}{read}, n = {answer['samples']:,}"
            passed = verdicts.get(answer.get("passed"), "")
            answers.append({"who": who, "verdict": passed, "text": answer["text"]})
        out.append({"id": str(entry["id"]), "prompt": entry["prompt"], "answers": answers})
    return out


def _checks(references: dict[str, Any]) -> dict[str, Any]:
    identity = references.get("identity") or []
    scores = [test for test in identity if test.get("z") is not None]
    names = ["student · method", "samples", "draw / seed", "difference, nats", "stderr", "z"]
    rows = [
        [
            _who(test),
            number(test["samples"]),
            f"{test['draw']} / {test['seed']}",
            number(test["difference"]),
            number(test["stderr"]),
            number(test["z"], 2),
        ]
        for test in identity[:MOST_LISTED]
    ]
    return {
        "identity": {"columns": _columns(names), "rows": rows},
        "identity_count": len(scores),
        "identity_few": len(identity) <= MOST_LISTED,
        "identity_good": sum(abs(test["z"]) < 3 for test in scores),
        "identity_worst": max((abs(test["z"]) for test in scores), default=None),
        "duplicates": references.get("near_duplicates"),
        "finished": [
            (name, _share(facts["responses"].get("finished_share")))
            for name, facts in references.get("teachers", {}).items()
            if facts.get("responses")
        ],
        "warnings": references.get("warnings") or [],
        "present": bool(references),
    }


def _costs(
    lines: list[Line], references: dict[str, Any], answers: list[dict[str, Any]]
) -> dict[str, Any]:
    """Return what each line's largest run cost, and the study's own totals."""
    tables = []
    for title in COST_TABLES:
        columns = [c for c in columns_of(title) if any(has_values(line.runs, c) for line in lines)]
        rows = []
        for line in lines:
            cell = line.runs[line.runs["samples"] == line.sizes[-1]]
            texts = [_mean_text(cell, column) for column in columns]
            rows.append([line.label, f"{line.sizes[-1]:,}", *texts])
        if columns:
            names = ["student · method", "samples", *columns]
            tables.append({"title": title, "columns": _columns(names), "rows": rows})
    totals = _flat(references.get("costs") or {})
    return {"tables": tables, "totals": totals, "quality": _quality_table(answers)}


def _quality_table(answers: list[dict[str, Any]]) -> Table | None:
    """Return quality per kWh of each line at each size, most first; None where it is not known."""
    cells = [(answer, cell) for answer in answers for cell in answer["numbers"]["cells"]]
    if not cells:
        return None
    unit = "kWh, estimated" if any(a["numbers"]["kwh_estimated"] for a, _ in cells) else "kWh"
    names = ["student · method", "samples", "runs", f"energy, {unit}", "quality",
             f"quality per {unit}", "90 % interval", "clearly less"]  # fmt: skip
    rows = [
        [
            cell["label"],
            number(cell["samples"]),
            number(cell["runs"]),
            number(cell["kwh"]),
            number(cell["quality"]),
            number(cell["per_kwh"]),
            "–"
            if cell["per_kwh_low"] is None
            else f"{number(cell['per_kwh_low'])} to {number(cell['per_kwh_high'])}",
            "" if cell["not_clearly_less"] else "yes",
        ]
        for _, cell in cells
    ]
    return {"columns": _columns(names), "rows": rows}


def _flat(record: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Flatten nested numbers to pairs of a name and a text."""
    out: list[tuple[str, str]] = []
    for key, value in record.items():
        if isinstance(value, Mapping):
            out += _flat(value, f"{prefix}{key}: ")
        else:
            shown = value if isinstance(value, str) else number(value)
            out.append((f"{prefix}{key}".replace("_", " "), shown))
    return out


def _provenance(table: pd.DataFrame, references: dict[str, Any]) -> list[tuple[str, str]]:
    """Return what made the numbers: software, hardware, the table's extent."""
    facts = [
        (f"{name}", ", ".join(map(str, versions)))
        for name, versions in (references.get("versions") or {}).items()
    ]
    facts.append(("hardware", "; ".join(map(str, references.get("hardware") or []))))
    facts.append(("runs table", f"{len(table):,} rows"))
    return [(name, value) for name, value in facts if value]
