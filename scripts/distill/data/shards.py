"""A shard: all that one student reads, a self-contained data set of prompts and responses."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from distill.contracts.costs import UNITS
from distill.core.completeness import count_controls, count_empty
from distill.core.errors import UserError
from distill.core.files import read_json, write_json
from distill.core.parquet import (
    merged_metadata,
    plain_schema,
    read_metadata,
    read_rows,
    read_schema,
    read_table,
    write_rows,
)
from distill.targets.format import bytes_per_token, scheme_of, stored_bytes, summarise


def _by_name(paths: Sequence[str | Path]) -> dict[str, dict[str, Any]]:
    return {row["id"]: row for row in read_rows(paths)}


def _columns(path: str | Path) -> list[pa.Field]:
    """The columns that a part of a cache adds, as a shard names them."""
    renamed = {name: f"target_{name}" for name in ("tokens", *UNITS)}
    return [
        field.with_name(renamed.get(field.name, field.name)).remove_metadata()
        for field in read_schema(path)
        if field.name != "id"
    ]


def build_shard(
    texts: Sequence[str | Path],
    rows: Sequence[int],
    spec: dict[str, Any],
    out: str | Path,
    targets: Sequence[str | Path] = (),
    layers: Sequence[str | Path] = (),
    manifest: str | Path | None = None,
    decisions: str | Path | None = None,
) -> None:
    """Write the given pool rows, in order, with a record of them beside the shard.

    Args:
        texts: Parts of the teacher's text that hold the rows.
        rows: Places in the pool; with `decisions` all rows of `texts` instead.
        spec: What the shard depends on; stored in it and in its record.
        out: `….parquet`; the record is `….json`.
        targets: Parts of a cache on the same rows, if there is one.
        layers: Parts with hidden states of layers, if the cache has them.
        manifest: The cache's manifest, copied into the record.
        decisions: Of the curation that chose and ordered the texts' rows, if one did.

    Raises:
        UserError: A row is missing from the parts.
    """
    by_row = {row["row"]: row for row in read_rows(texts)}
    rows = rows if decisions is None else list(by_row)
    if missing := [row for row in rows if row not in by_row]:
        raise UserError(
            f"{out}: the teacher's text lacks pool row {missing[0]}; delete {texts[0]} and run "
            "again"
        )
    chosen = [dict(by_row[row]) for row in rows]
    fields = list(plain_schema(texts[0]))
    for parts in (targets, layers):
        if not parts:
            continue
        columns, target_of = _columns(parts[0]), _by_name(parts)
        names = [field.name for field in read_schema(parts[0]) if field.name != "id"]
        for row in chosen:
            if row["id"] not in target_of:
                raise UserError(
                    f"{out}: {parts[0]} lacks the row {row['id']}; delete it and run again"
                )
            for name, field in zip(names, columns, strict=True):
                row[field.name] = target_of[row["id"]][name]
        fields += columns
    metadata: dict[str, Any] = {
        "spec": spec,
        "tokenizer_sha256": read_metadata(texts[0], "tokenizer_sha256"),
    }
    if targets and "cache" in spec and spec["cache"]["scheme"] != "final_hidden":
        metadata["vocabulary"] = read_metadata(targets[0], "vocabulary")
        if spec["cache"]["scheme"] == "dense":
            metadata["excluded"] = read_metadata(targets[0], "excluded")
    write_rows(out, chosen, pa.schema(fields), **metadata)
    record = {
        "schema": 1,
        "spec": spec,
        "rows": len(chosen),
        "finished": sum(row["finish_reason"] == "stop" for row in chosen),
        "empty": count_empty(chosen),
        "controls": count_controls(chosen, merged_metadata(texts, "controls")),
        "teacher_tokens": sum(len(row["response_ids"] or []) for row in chosen),
        "teacher_flops": sum(row["teacher_flops"] for row in chosen),
        "teacher_seconds": sum(row["teacher_seconds"] for row in chosen),
        "target_flops": sum(target_cost(row) for row in chosen),
        "curation": read_metadata(decisions, "record") if decisions else None,
        "cache": None,
    }
    if targets:
        record["cache"] = _cache_record(chosen, spec["cache"], targets, layers)
        record["cache"]["manifest"] = read_json(manifest) if manifest else None
    write_json(Path(out).with_suffix(".json"), record)


def target_cost(row: Mapping[str, Any]) -> float:
    """FLOPs of a row's soft targets: scoring passes and output heads, stored layers included."""
    return float(row.get("target_flops") or 0.0) + float(row.get("layer_flops") or 0.0)


def _cache_record(
    rows: Sequence[dict[str, Any]],
    spec: dict[str, Any],
    targets: Sequence[str | Path],
    layers: Sequence[str | Path],
) -> dict[str, Any]:
    """What the soft targets hold, and their bytes per token in the cache's own files."""
    record: dict[str, Any] = {"kept_mass": 1.0, "entropy": None, "distinct_ids": None}
    if spec["scheme"] != "final_hidden":
        record |= summarise(rows, scheme_of(spec))
    if record["entropy"] is not None and math.isnan(record["entropy"]):
        record["entropy"] = None  # a server reports the most likely tokens only
    tokens = sum(sum(read_table(path, ["tokens"])["tokens"].to_pylist()) for path in targets)
    stored = [stored_bytes(path) for path in layers]
    size = sum(sizes[name] for sizes in stored for name in ("layers", "scales"))
    return record | {
        "tokens": sum(row["target_tokens"] for row in rows),
        "bytes_per_token": bytes_per_token(targets),
        "layer_bytes_per_token": size / tokens if layers else None,
    }
