"""How FLOPs split between the teacher's inference and the student's training.

FLOPs are counted, not measured, so shares have no sampling error.
"""

from typing import Any

import pandas as pd

from distill.answers.answer import Answer, Need, about_line
from distill.answers.measured import Measured
from distill.table.lines import Line, has_values, sort_out

KEY = "flops_split"
PARTS = ("train_flops", "teacher_flops", "target_flops")


def answer(study: Measured) -> list[Answer]:
    """How FLOPs split, per method and cache; `corpus_methods` are those without a teacher."""
    corpus = set(study.settings.get("corpus_methods") or [])
    groups = sort_out(study.parts, "teacher", "method", "cache")
    return [_split(group, group[0].method in corpus) for group in groups]


def _points(line: Line) -> list[dict[str, Any]]:
    """Return the teacher's share of FLOPs at each size of a line."""
    # Without a cache there are no soft targets to pay for, so a null there is 0.
    needed = PARTS if line.reads_cache else PARTS[:2]
    if not all(has_values(line.runs, column) for column in needed):
        return []
    table = pd.DataFrame(
        {
            column: pd.to_numeric(line.runs[column], errors="coerce")
            for name in PARTS
            for column in (name, f"{name}_amortised")
            if column in line.runs
        }
    )
    for suffix in ("", "_amortised"):
        column = f"target_flops{suffix}"
        table[column] = table[column].fillna(0.0) if column in table else 0.0
    table["samples"] = line.runs["samples"]
    out = []
    for samples, cell in table.groupby("samples"):
        means = cell.mean()
        runs = line.runs[line.runs["samples"] == samples]
        point: dict[str, Any] = {
            "label": line.label,
            "student": line.student,
            "cache": line.cache,
            "samples": int(str(samples)),
            "params": _mean(runs, "params"),
            "tokens_unique": _mean(runs, "tokens_unique"),
            "epochs": _mean(runs, "epochs"),
        }
        for name, suffix in (("marginal", ""), ("amortised", "_amortised")):
            taught = (
                means.get(f"teacher_flops{suffix}", float("nan")) + means[f"target_flops{suffix}"]
            )
            total = taught + means["train_flops"]
            # The shares need both parts; a table without amortised costs has the marginal alone.
            share = taught / total if total > 0 else float("nan")
            point[name] = None if pd.isna(share) else float(share)
        out.append(point)
    return out


def _mean(runs: pd.DataFrame, column: str) -> float | None:
    return float(pd.to_numeric(runs[column]).mean()) if has_values(runs, column) else None


def _split(group: list[Line], corpus: bool) -> Answer:
    line = group[0]
    points = [point for line in group for point in _points(line)]
    largest = {point["student"]: point for point in points}
    numbers: dict[str, Any] = {"points": points, "largest": list(largest.values())}
    for name in ("marginal", "amortised"):
        shares = [point[name] for point in largest.values() if point[name] is not None]
        numbers[f"teacher_share_{name}"] = [min(shares), max(shares)] if shares else None
    students = {one.student for one in group}
    about = about_line(line) | {
        "student": line.student if len(students) == 1 else None,
        "label": f"{line.method}{f' · {line.cache}' if line.reads_cache else ''}",
    }
    if corpus:
        return Answer(KEY, about, "not_applicable", numbers)
    if numbers["teacher_share_marginal"] is None:
        return Answer(KEY, about, "cannot_tell", numbers, (Need("column", list(PARTS)),))
    return Answer(KEY, about, "answered", numbers)
