"""What benchmarks say: how much of its teacher's score each student keeps, in words and tables."""

from collections.abc import Mapping, Sequence
from typing import Any

from distill.estimates import Estimate, number, read_estimate
from distill.lines import GROUP, Line, record

BENCHMARKS = "How much of the teacher's score on benchmarks is kept?"

Cell = Mapping[str, Any]
"""A cell of references.json's benchmarks."""


def answer_benchmarks(
    lines: Sequence[Line], references: Mapping[str, Any] | None
) -> list[dict[str, Any]]:
    """Answer for each line and benchmark what its largest size keeps of the teacher's score."""
    known = (references or {}).get("benchmarks") or {"cells": [], "tasks": {}}
    answers = []
    for line in lines:
        cells = [cell for cell in known["cells"] if _belongs(cell, line) and cell["samples"]]
        largest = max((cell["samples"] for cell in cells), default=0)
        for cell in cells:
            if cell["samples"] == largest:
                found = _answer(line, cell, known["tasks"][cell["task"]])
                answers.append(found | {"label": f"{line.label} · {cell['task']}"})
    return answers


def _belongs(cell: Cell, line: Line) -> bool:
    return all(cell[name] == getattr(line, name) for name in GROUP)


def _answer(line: Line, cell: Cell, task: Mapping[str, Any]) -> dict[str, Any]:
    kept, above = (_percent(cell, name) for name in ("share", "share_above_chance"))
    at = f"at n = {cell['samples']:,} the {task['metric']} is {_plus_minus(cell)}"
    if cell["difference"] is None:
        text = f"Cannot tell, because the teacher has no model to be judged; {at}."
    elif kept is None:
        low = (
            "lower is better" if task["higher_is_better"] is False else "its own is not clear of 0"
        )
        text = f"Cannot tell: {at}, and no share of the teacher's score is formed, as {low}."
    else:
        text = f"It keeps {kept.text('%')} of the teacher's score: {at}."
        if above is not None:
            text += f" Of what lies above guessing it keeps {above.text('%')}."
    evidence = f"{_difference(cell)}{verdict(cell, task).capitalize()}. "
    evidence += (
        f"{task['n']:,} documents, the same for both; intervals are over documents and leave out "
        f"what another draw or seed would change ({_runs(cell)} here)."
    )
    numbers = {key: value for key, value in cell.items() if key not in GROUP}
    return record(BENCHMARKS, line, text, evidence, numbers | {"metric": task["metric"]})


def _runs(cell: Cell) -> str:
    return "one run" if cell["runs"] == 1 else f"the mean of {cell['runs']} runs"


def _difference(cell: Cell) -> str:
    found = _read(cell, "difference")
    return "" if found is None else f"Its score minus the teacher's is {found.text()}. "


def verdict(cell: Cell, task: Mapping[str, Any]) -> str:
    """Say what can be told apart: the student from its teacher, and from guessing."""
    words, better = [], {True: "better", False: "worse"}
    up = task["higher_is_better"] is not False
    for name, whom in (("difference", "the teacher"), ("above_chance", "guessing")):
        found = _read(cell, name)
        if found is None:
            continue
        if not found.tested:
            words.append(f"no error bar against {whom}")
        elif found.sign == 0:
            words.append(f"not told apart from {whom}")
        else:
            words.append(f"{better[(found.sign > 0) == up]} than {whom}")
    return ", ".join(words) or "nothing to compare it with"


def benchmark_section(
    lines: Sequence[Line], references: Mapping[str, Any]
) -> dict[str, Any] | None:
    """Return the report's tables of benchmarks: every score, and what is kept of the teacher's."""
    known = references.get("benchmarks")
    if not known:
        return None
    tasks, cells = known["tasks"], known["cells"]
    found: dict[tuple[Any, ...], dict[str, Cell]] = {}
    for cell in cells:
        found.setdefault(_place(cell), {})[cell["task"]] = cell
    labels = {
        (*(getattr(line, name) for name in GROUP), size): line.label
        for line in lines
        for size in line.sizes
    }
    labels |= {
        _place(cell): f"{cell['student']} before training" for cell in cells if not cell["samples"]
    }
    scores = [["guessing", "–", "–", *(number(task["chance"]) for task in tasks.values())]]
    for name, theirs in known["teachers"].items():
        shown = (_plus_minus(theirs.get(task)) for task in tasks)
        scores.append([f"{name} (teacher)", "–", "–", *shown])
    kept = []
    for place, label in labels.items():
        own = found.get(place, {})
        if own:
            runs = max(cell["runs"] for cell in own.values())
            shown = (_plus_minus(own.get(task)) for task in tasks)
            scores.append([label, f"{place[-1]:,}", f"{runs}", *shown])
        if place[-1]:
            kept += [_kept_row(label, own[task], tasks[task]) for task in tasks if task in own]
    return {
        "tasks": [(name, _about(task)) for name, task in tasks.items()],
        "scores": {
            "columns": _columns(["model", "samples", "runs", *tasks]),
            "rows": scores,
        },
        "kept": {"columns": _columns(_KEPT, "what it says"), "rows": kept},
        "cut": _cut(known),
    }


_KEPT = [
    "student · method", "samples", "task", "score minus the teacher's", "share kept",
    "share kept above guessing", "what it says",
]  # fmt: skip


def _columns(names: Sequence[str], *text: str) -> list[dict[str, Any]]:
    return [
        {"name": name, "measured": False, "text": name in text, "wide": False} for name in names
    ]


def _place(cell: Cell) -> tuple[Any, ...]:
    return (*(cell[name] for name in GROUP), cell["samples"])


def _kept_row(label: str, cell: Cell, task: Mapping[str, Any]) -> list[str]:
    gap = _read(cell, "difference")
    shares = (_percent(cell, name) for name in ("share", "share_above_chance"))
    return [
        label,
        f"{cell['samples']:,}",
        cell["task"],
        _short(gap, ""),
        *(_short(found, " %") for found in shares),
        verdict(cell, task),
    ]


def _read(cell: Cell, name: str) -> Estimate | None:
    return None if cell[name] is None else read_estimate(cell, name)


def _plus_minus(score: Mapping[str, Any] | None) -> str:
    """Write a score with its standard error."""
    if not score:
        return "–"
    error = "" if not score["stderr"] else f" ± {number(score['stderr'], 2)}"
    return f"{number(score['value'])}{error}"


def _percent(cell: Cell, name: str) -> Estimate | None:
    """A share in per cent."""
    if (found := _read(cell, name)) is None:
        return None
    ends = (found.stderr, found.low, found.high)
    return Estimate(100 * found.value, *(None if end is None else 100 * end for end in ends))


def _short(found: Estimate | None, unit: str) -> str:
    """Write an estimate for a table whose caption says what the interval is."""
    if found is None:
        return "–"
    if found.low is None or found.high is None:
        return f"{number(found.value)}{unit} (no error bar)"
    return f"{number(found.value)}{unit} ({number(found.low)} to {number(found.high)})"


def _about(task: Mapping[str, Any]) -> str:
    """Say what a task is and how it was asked."""
    kind = "" if task["filter"] in ("", "none") else f" after the filter {task['filter']}"
    parts = [f"{task['metric']}{kind}", f"{task['n']:,} documents"]
    if task["limit"] is not None:
        parts.append(f"the first {task['limit']:,} of each part only")
    if task["fewshot"] is not None:
        parts.append(f"{task['fewshot']} examples before each")
    parts.append(f"version {task['version']}")
    return ", ".join(parts)


def _cut(known: Mapping[str, Any]) -> list[str]:
    """Say whose prompts did not fit into the context."""
    found = [
        (f"{name} (teacher)", task, score["cut"])
        for name, theirs in known["teachers"].items()
        for task, score in theirs.items()
    ]
    found += [(cell["student"], cell["task"], cell["cut"]) for cell in known["cells"]]
    most: dict[tuple[str, str], int] = {}
    for name, task, cut in found:
        most[name, task] = max(cut, most.get((name, task), 0))
    return [
        f"{cut:,} prompts of {task} are longer than the context of {name} and lost their start"
        for (name, task), cut in most.items()
        if cut
    ]
