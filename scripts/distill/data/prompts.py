"""Prompts: slices of a data set in a seeded order, and the filter against near-duplicates."""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from distill.contracts.costs import FREE, cost_of
from distill.contracts.schemas import PROMPT_SCHEMA, RAW_SCHEMA
from distill.core.errors import UserError
from distill.core.parquet import read_metadata, read_rows, write_rows
from distill.data.near_duplicates import _text, drop_near_duplicates


def slice_rows(
    rows: Sequence[dict[str, Any]], spec: dict[str, Any], name: str
) -> list[dict[str, Any]]:
    """One raw part of a data set: the next `candidates` rows of a seeded order.

    Args:
        rows: All rows of the data set.
        spec: Holds candidates, slice (number of the part over all splits) or else first (place of
            the first candidate), seed and max_tokens (rows with more words, context included, are
            left out before ordering).
        name: The data set's name, for messages.

    Raises:
        UserError: The data set is too small.
    """
    fitting = [
        (hashlib.sha256(f"{spec['seed']}:{number}".encode()).digest(), number)
        for number, row in enumerate(rows)
        if len(_text(row).split()) <= spec["max_tokens"]
    ]
    order = [number for _, number in sorted(fitting)]
    first = spec["slice"] * spec["candidates"] if "slice" in spec else spec["first"]
    chosen = order[first : first + spec["candidates"]]
    if not chosen:
        raise UserError(
            f"{name} has {len(order)} prompts of at most prompts.max_tokens "
            f"({spec['max_tokens']}) words, too few for the study; lower prompts.pool, test or "
            "surplus, or raise max_tokens"
        )
    return [
        {"id": f"row-{number:07d}", **{key: rows[number][key] for key in RAW_SCHEMA.names[1:]}}
        for number in chosen
    ]


def filter_part(
    raw: Sequence[dict[str, Any]],
    earlier: Sequence[dict[str, Any]],
    spec: dict[str, Any],
    cost: Mapping[str, Any],
) -> list[dict[str, Any]]:
    """Keep exactly a part's number of prompts, numbered within their split.

    Args:
        raw: Candidates.
        earlier: Kept prompts of all held-out and earlier parts.
        spec: Holds split, part, rows and near_duplicate.
        cost: Columns of the cost of writing all candidates, rejected ones included.

    Raises:
        UserError: Too few candidates are left.
    """
    distinct = drop_near_duplicates(raw, earlier, spec["near_duplicate"])
    if len(distinct) < spec["rows"]:
        raise UserError(
            f"{spec['split']} part {spec['part']}: {len(distinct)} of {len(raw)} candidate prompts "
            f"are not near-duplicates, but {spec['rows']} are needed; raise prompts.surplus"
        )
    first, share = spec["first"], cost_of(cost) / spec["rows"]
    return [
        {
            "id": f"{spec['split']}-{first + number:07d}",
            "row": first + number,
            "prompt": row["prompt"],
            "context": row["context"],
            "reference": row["response"],
            **share.columns("prompt_"),
        }
        for number, row in enumerate(distinct[: spec["rows"]])
    ]


def slice_part(rows: str | Path, out: str | Path, spec: dict[str, Any], source: str) -> None:
    """Take one raw part of a data set's prompts, at no cost; see `slice_rows`.

    Args:
        rows: The data set.
        out: The part, rows of `RAW_SCHEMA`.
        spec: As of `slice_rows`; stored in the part.
        source: The data set's name, for messages.
    """
    candidates = slice_rows(read_rows(rows), spec, source)
    write_rows(out, candidates, RAW_SCHEMA, spec=spec, cost=FREE.columns())


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
    cost = read_metadata(raw, "cost")
    prompts = filter_part(read_rows(raw), read_rows(earlier), spec, cost)
    write_rows(out, prompts, PROMPT_SCHEMA, spec=spec)
