"""What the report shows of benchmark scores."""

from collections.abc import Mapping, Sequence
from typing import Any

from distill.answers.runs.benchmarks import Cell, estimate_of, standing
from distill.table.lines import GROUP, Line


def benchmark_section(
    lines: Sequence[Line], references: Mapping[str, Any]
) -> dict[str, Any] | None:
    """The report's tables of benchmarks.

    Returns:
        tasks, of references.json; scores, a row per model and size, with each task's score under
        `benchmark_<task>`; kept, a row per trained cell and task: what is kept of the teacher's
        score; cut, how many prompts of a task lost their start. None without benchmarks.
    """
    known = references.get("benchmarks")
    if not known:
        return None
    tasks, cells = known["tasks"], known["cells"]
    by_place: dict[tuple[Any, ...], dict[str, Cell]] = {}
    for cell in cells:
        by_place.setdefault(_place(cell), {})[cell["task"]] = cell
    models = {
        (*(getattr(line, name) for name in GROUP), size): {"label": line.label, "kind": "line"}
        for line in lines
        for size in line.sizes
    }
    models |= {
        _place(cell): {"label": cell["student"], "kind": "start"}
        for cell in cells
        if not cell["samples"]
    }
    chance = {task: {"value": facts["chance"], "stderr": None} for task, facts in tasks.items()}
    scores = [{"label": "guessing", **_scores(chance)}]
    for name, theirs in known["teachers"].items():
        scores.append({"label": name, "kind": "teacher", **_scores(theirs)})
    kept = []
    for place, model in models.items():
        if not (found := by_place.get(place)):
            continue
        row = {**model, "samples": place[-1]}
        runs = max(cell["runs"] for cell in found.values())
        scores.append({**row, "runs": runs, **_scores(found)})
        if place[-1]:
            kept += [_kept(row, found[task], tasks[task]) for task in tasks if task in found]
    return {"tasks": tasks, "scores": scores, "kept": kept, "cut": _cut(known)}


def _place(cell: Cell) -> tuple[Any, ...]:
    return (*(cell[name] for name in GROUP), cell["samples"])


def _scores(scores: Mapping[str, Any]) -> dict[str, Any]:
    return {f"benchmark_{task}": entry for task, entry in scores.items()}


def _kept(row: Mapping[str, Any], cell: Cell, task: Mapping[str, Any]) -> dict[str, Any]:
    """What a cell keeps of its teacher's score: estimates, shares in per cent."""
    shares = {name: estimate_of(cell, name) for name in ("share", "share_above_chance")}
    return {
        **row,
        "task": cell["task"],
        "difference": estimate_of(cell, "difference"),
        **{name: value and value.scaled(100) for name, value in shares.items()},
        "standing": standing(cell, task),
    }


def _cut(known: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The most prompts of a task that did not fit into the context of each model."""
    scores = [
        ({"label": name, "kind": "teacher"}, task, score["cut"])
        for name, theirs in known["teachers"].items()
        for task, score in theirs.items()
    ]
    scores += [
        ({"label": cell["student"], "kind": "line"}, cell["task"], cell["cut"])
        for cell in known["cells"]
    ]
    most: dict[tuple[str, str, str], int] = {}
    for model, task, cut in scores:
        key = (model["label"], model["kind"], task)
        most[key] = max(cut, most.get(key, 0))
    return [
        {"label": label, "kind": kind, "task": task, "cut": cut}
        for (label, kind, task), cut in most.items()
        if cut
    ]
