"""The report's tables of benchmark scores."""

from collections.abc import Mapping, Sequence
from typing import Any

from distill.answers.runs.benchmarks import Cell, estimate_of, standing
from distill.stats.intervals import Estimate, number
from distill.table.lines import GROUP, Line


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


STANDING = {
    "better": "better than {}",
    "worse": "worse than {}",
    "within_noise": "within the noise of {}",
    "untested": "no error bar against {}",
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
    gap = estimate_of(cell, "difference")
    shares = (estimate_of(cell, name) for name in ("share", "share_above_chance"))
    return [
        label,
        f"{cell['samples']:,}",
        cell["task"],
        _short(gap, ""),
        *(_short(share and share.scaled(100), " %") for share in shares),
        _standing(cell, task),
    ]


def _standing(cell: Cell, task: Mapping[str, Any]) -> str:
    """Say how the student stands against its teacher and against guessing."""
    words = {"teacher": "the teacher", "guessing": "guessing"}
    against = [
        STANDING[outcome].format(words[whom]) for whom, outcome in standing(cell, task).items()
    ]
    return ", ".join(against) or "nothing to compare it with"


def _plus_minus(score: Mapping[str, Any] | None) -> str:
    """Write a score with its standard error."""
    if not score:
        return "–"
    error = "" if not score["stderr"] else f" ± {number(score['stderr'], 2)}"
    return f"{number(score['value'])}{error}"


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
