"""Pairs of curated and raw runs, all else equal."""

import math

from distill.table.lines import RAW, Line, Run, alike, has_values

EQUAL = 0.02
"""Largest relative difference of unique tokens that counts as equal."""


def curated_pairs(lines: list[Line]) -> list[tuple[Line, Line]]:
    """Pairs (raw, curated) of lines of the same student and method, all else equal."""
    curated = [line for line in lines if line.curation not in RAW]
    return [
        (one, other)
        for one in lines
        if one.curation in RAW
        for other in curated
        if one.method == other.method and alike(one, other, "curation")
    ]


def curations_of(lines: list[Line]) -> list[str]:
    """The curations of some lines, sorted; `raw` if every answer is kept."""
    return sorted({"raw" if line.curation in RAW else line.curation for line in lines})


def tokens_equal(one: Line, other: Line) -> dict[Run, float]:
    """Return the unique tokens of the paired runs whose tokens are equal."""
    if not all(has_values(line.runs, "tokens_unique") for line in (one, other)):
        return {}
    left, right = one.by_run("tokens_unique"), other.by_run("tokens_unique")
    return {
        run: math.sqrt(left[run] * right[run])
        for run in left
        if run in right
        and min(left[run], right[run]) > 0
        and abs(math.log(left[run] / right[run])) <= EQUAL
    }
