"""A shard: all that one student reads, a self-contained data set of prompts and responses."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from distill.contracts.costs import UNITS
from distill.core.completeness import count_empty
from distill.core.errors import UserError
from distill.core.files import read_json, write_json, write_text
from distill.core.parquet import (
    plain_schema,
    read_metadata,
    read_rows,
    read_schema,
    read_table,
    write_rows,
)
from distill.targets.format import bytes_per_token, scheme_of, stored_bytes, summarise

CARD = """---
license: other
task_categories: [text-generation]
---
# {whose}, curation {curation}, cache {cache}

Training sets of the study `{study}`. `draw0/n64.parquet` holds the first 64 rows of the pool; a
larger n of the same draw begins with the same rows; another draw permutes the pool.

    datasets.load_dataset("parquet", data_files="draw0/n64.parquet", split="train")

| column | meaning |
|---|---|
| id, row | the prompt's name and its place in the pool |
| prompt, context | the user's request |
| response | the text to learn |
| reference | the data set's own answer, if any |
| prompt_ids, response_ids | the teacher's tokens and end token; null for untokenised text |
| positions | masked chunks: where in prompt_ids the tokens in response_ids are to be found |
| finish_reason | `stop`, or `length` for an answer cut short (it carries no end token) |
| teacher_flops, teacher_seconds | cost of writing prompt and answer, rejected prompts included |
| teacher_kwh, teacher_kwh_estimated | its energy, and the part of it that is an estimate |
| target_tokens, target_flops, target_seconds | with a cache: positions scored, their cost |
| target_kwh, target_kwh_estimated | their energy, likewise |
| hidden | cache `final_hidden`: the teacher's last hidden states, bf16 [tokens, width] |
| ids, counts, lengths, log_p, tail_mass, entropy, log_z | other caches: see docs/soft_targets.md |
| layers, scales, layer_flops, layer_seconds | caches with `hidden:`: states of chosen layers |

{curated}{source}
"""
CURATED = """A curation chose the rows: `n64` holds the first 64 that it kept. What it read:

| file | read | kept | corrupted | dropped |
|---|---|---|---|---|
{rows}

"""


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
        rows: Places in the pool; with `decisions` all rows of `texts`, whatever stands here.
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
        columns, found = _columns(parts[0]), _by_name(parts)
        names = [field.name for field in read_schema(parts[0]) if field.name != "id"]
        for row in chosen:
            if row["id"] not in found:
                raise UserError(f"{out}: {parts[0]} lacks the row {row['id']}; delete it and run again")  # fmt: skip  # noqa: E501
            for name, field in zip(names, columns, strict=True):
                row[field.name] = found[row["id"]][name]
        fields += columns
    metadata: dict[str, Any] = {
        "spec": spec, "tokenizer_sha256": read_metadata(texts[0], "tokenizer_sha256"),
    }  # fmt: skip
    if targets and "cache" in spec and spec["cache"]["scheme"] != "final_hidden":
        metadata["vocabulary"] = read_metadata(targets[0], "vocabulary")
    write_rows(out, chosen, pa.schema(fields), **metadata)
    record = {
        "schema": 1,
        "spec": spec,
        "rows": len(chosen),
        "finished": sum(row["finish_reason"] == "stop" for row in chosen),
        "empty": count_empty(chosen),
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
        record["entropy"] = None  # a server tells of the likeliest words alone
    tokens = sum(sum(read_table(path, ["tokens"])["tokens"].to_pylist()) for path in targets)
    stored = [stored_bytes(path) for path in layers]
    size = sum(sizes[name] for sizes in stored for name in ("layers", "scales"))
    return record | {
        "tokens": sum(row["target_tokens"] for row in rows),
        "bytes_per_token": bytes_per_token(targets),
        "layer_bytes_per_token": size / tokens if layers else None,
    }


def write_card(
    study: str,
    teacher: str,
    curation: str,
    cache: str,
    out: str | Path,
    records: Sequence[str | Path] = (),
    corpus: str | None = None,
) -> None:
    """Write the data-set card of a folder of shards.

    Args:
        study: Name of the study.
        teacher: Whose text, or whose soft targets on a corpus.
        curation: Which rows.
        cache: Which soft targets.
        out: The card.
        records: Records of the folder's shards, where a curation chose their rows.
        corpus: What the text is where no teacher wrote it.
    """
    lines = []
    for path in map(Path, records):
        found = read_json(path)["curation"]
        dropped = ", ".join(f"{count} {why}" for why, count in found["dropped"].items())
        cells = (f"{path.parent.name}/{path.stem}", found["read"], found["kept"])
        lines.append(
            f"| {' | '.join(map(str, cells))} | {found['corrupted']} | {dropped or 'none'} |"
        )
    curated = CURATED.format(rows="\n".join(lines)) if lines else ""
    words = {"study": study, "curation": curation, "cache": cache, "curated": curated}
    words["whose"] = f"Responses of {teacher}"
    words["source"] = "The text is model-written and unchecked."
    if corpus is not None:
        words["whose"] = f"Chunks of {corpus} for {teacher}"
        words["source"] = f"The text is that of {corpus}, whose licence it has."
    write_text(out, CARD.format(**words))
