"""Prompts: slices of a data set in a seeded order, and the filter against near-duplicates."""

import hashlib
import math
from array import array
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from distill.contracts.costs import FREE, cost_of
from distill.contracts.schemas import PROMPT_SCHEMA, RAW_SCHEMA
from distill.core.errors import UserError
from distill.core.parquet import read_batches, read_metadata, read_rows, write_rows
from distill.core.rows.lengths import prompt_tokens
from distill.data.near_duplicates import drop_near_duplicates


def slice_order(lengths: Iterable[int], spec: dict[str, Any]) -> list[int]:
    """Numbers of the rows whose prompts are short enough, in a seeded order.

    Args:
        lengths: Estimated tokens of each row's prompt, see `prompt_tokens`.
        spec: Holds seed and max_tokens.
    """
    hashes, numbers = bytearray(), array("q")
    for number, length in enumerate(lengths):
        if length <= spec["max_tokens"]:
            hashes += hashlib.sha256(f"{spec['seed']}:{number}".encode()).digest()[:16]
            numbers.append(number)
    halves = np.frombuffer(hashes, dtype=">u8").reshape(-1, 2)
    order: list[int] = np.asarray(numbers)[np.lexsort((halves[:, 1], halves[:, 0]))].tolist()
    return order


def _first(spec: Mapping[str, Any]) -> int:
    """Place of a raw part's first candidate in the order."""
    return int(spec["slice"] * spec["candidates"] if "slice" in spec else spec["first"])


def slice_of(order: Sequence[int], spec: dict[str, Any], name: str) -> list[int]:
    """Numbers of the rows of one raw part: the next `candidates` of the order.

    Args:
        order: Of `slice_order`.
        spec: Holds candidates, max_tokens, and slice (number of the part over all splits) or else
            first (place of the first candidate).
        name: The data set's name, for errors.

    Raises:
        UserError: The data set is too small.
    """
    first = _first(spec)
    chosen = order[first : first + spec["candidates"]]
    if not chosen:
        raise UserError(
            f"{name} has {len(order)} prompts of at most prompts.max_tokens "
            f"({spec['max_tokens']}) tokens, too few for the study; lower prompts.pool, test or "
            "surplus, or raise max_tokens"
        )
    return list(chosen)


def filter_part(
    raw: Sequence[dict[str, Any]],
    earlier: Sequence[dict[str, Any]],
    spec: dict[str, Any],
    cost: Mapping[str, Any],
    data: Mapping[str, int] | None = None,
) -> list[dict[str, Any]]:
    """Keep exactly a part's number of prompts, numbered within their split.

    Args:
        raw: Candidates.
        earlier: Kept prompts of all held-out and earlier parts.
        spec: Holds split, part, rows and near_duplicate.
        cost: Columns of the cost of writing all candidates, rejected ones included.
        data: Of `_behind`; None with Magpie, whose prompts have no end.

    Raises:
        UserError: Too few candidates are left.
    """
    distinct = drop_near_duplicates(raw, earlier, spec["near_duplicate"])
    if len(distinct) < spec["rows"]:
        raise UserError(
            f"{spec['split']} part {spec['part']}: {len(distinct)} of {len(raw)} candidate prompts "
            f"are not near-duplicates, but {spec['rows']} are needed; "
            f"{_remedy(len(distinct), len(raw), data)}"
        )
    first, share = spec["first"], cost_of(cost) / spec["rows"]
    return [
        {
            "id": f"{spec['split']}-{first + number:07d}",
            "row": first + number,
            "prompt": row["prompt"],
            "context": row["context"],
            "reference": row["response"],
            "system": row.get("system"),
            "turns": row.get("turns"),
            "checks": row.get("checks"),
            **share.columns("prompt_"),
        }
        for number, row in enumerate(distinct[: spec["rows"]])
    ]


def _remedy(distinct: int, candidates: int, data: Mapping[str, int] | None) -> str:
    """What to do where too few candidates are left.

    A surplus at which the parts so far would take more rows than there are makes the data set
    scarce: its parts then take all of its rows.
    """
    if data is not None and data["before"] + candidates >= data["fitting"]:
        return (
            "the data set has no more: lower prompts.pool or test, raise near_duplicate, or give "
            "more different prompts"
        )
    surplus = 1.3 * candidates / max(distinct, 1)
    if data is not None:
        surplus = min(surplus, data["rows"] / data["prompts"])
    return f"raise prompts.surplus to {math.ceil(100 * surplus + 1) / 100:g}"


def _behind(
    counts: Mapping[str, Any], raw: Mapping[str, Any], spec: Mapping[str, Any]
) -> dict[str, int]:
    """What a remedy depends on in the data set behind candidates.

    Args:
        counts: Of the data set: usable and fitting.
        raw: Spec of the candidates.
        spec: Of the part.

    Returns:
        `rows`: all usable rows; `fitting`: those that are short enough; `before`: places in their
        order before these candidates; `prompts`: those asked for, up to this part.
    """
    first = _first(raw)
    prompts = (raw["slice"] + 1) * raw["part_size"] if "slice" in raw else first + spec["rows"]
    return {
        "rows": counts["usable"],
        "fitting": counts["fitting"],
        "before": first,
        "prompts": prompts,
    }


def slice_part(rows: str | Path, out: str | Path, spec: dict[str, Any], source: str) -> None:
    """Take one raw part of a data set's prompts, at no cost; see `slice_of`.

    Args:
        rows: The data set; it is read in batches, twice.
        out: The part, rows of `RAW_SCHEMA`.
        spec: As of `slice_order` and `slice_of`; stored in the part.
        source: The data set's name, for messages.
    """
    names = RAW_SCHEMA.names[1:]
    lengths = (prompt_tokens(row) for batch in read_batches(rows, names) for row in batch)
    order = slice_order(lengths, spec)
    chosen = slice_of(order, spec, source)
    wanted, taken, number = set(chosen), dict[int, dict[str, Any]](), 0
    for batch in read_batches(rows, names):
        for row in batch:
            if number in wanted:
                taken[number] = {"id": f"row-{number:07d}", **row}
            number += 1
    counts = read_metadata(rows, "data") | {"fitting": len(order)}
    candidates = [taken[place] for place in chosen]
    write_rows(out, candidates, RAW_SCHEMA, spec=spec, cost=FREE.columns(), data=counts)


def keep_part(
    raw: str | Path, earlier: Sequence[str | Path], out: str | Path, spec: dict[str, Any]
) -> None:
    """Drop near-duplicates from one raw part and keep its number of prompts; see `filter_part`.

    Args:
        raw: The raw part, with what writing it cost.
        earlier: Kept parts of all held-out and earlier prompts.
        out: The kept part, rows of `PROMPT_SCHEMA`.
        spec: As of `filter_part`; stored in the part.
    """
    cost, counts = read_metadata(raw, "cost"), read_metadata(raw, "data")
    data = None if counts is None else _behind(counts, read_metadata(raw, "spec"), spec)
    prompts = filter_part(read_rows(raw), read_rows(earlier), spec, cost, data)
    write_rows(out, prompts, PROMPT_SCHEMA, spec=spec, data=counts)
