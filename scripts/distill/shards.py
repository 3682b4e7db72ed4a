"""A shard: all that one student reads, a self-contained data set of prompts and responses."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from distill.files import UserError, write_json, write_text
from distill.parquet import read_metadata, read_rows, write_rows
from distill.schemas import TEXT_SCHEMA

CARD = """---
license: other
task_categories: [text-generation]
---
# Responses of {teacher}, curation {curation}, cache {cache}

Training sets of the study `{study}`. `draw0/n64.parquet` holds the first 64 rows of the pool; a
larger n of the same draw begins with the same rows; another draw permutes the pool.

    datasets.load_dataset("parquet", data_files="draw0/n64.parquet", split="train")

| column | meaning |
|---|---|
| id, row | the prompt's name and its place in the pool |
| prompt, context | the user's request |
| response | the teacher's answer |
| prompt_ids, response_ids | the teacher's tokens and end token; null for ready-made text |
| finish_reason | `stop`, or `length` for an answer cut short (it carries no end token) |
| teacher_flops, teacher_seconds | cost of writing prompt and answer, rejected prompts included |

The text is model-written and unchecked.
"""


def build_shard(
    texts: Sequence[str | Path], rows: Sequence[int], spec: dict[str, Any], out: str | Path
) -> None:
    """Write the given pool rows, in order, with a record of them beside the shard.

    Args:
        texts: Parts of the teacher's text that hold the rows.
        rows: Places in the pool.
        spec: What the shard depends on; stored in it and in its record.
        out: `….parquet`; the record is `….json`.

    Raises:
        UserError: A row is missing from the parts.
    """
    by_row = {row["row"]: row for row in read_rows(texts)}
    if missing := [row for row in rows if row not in by_row]:
        raise UserError(
            f"{out}: the teacher's text lacks pool row {missing[0]}; delete {texts[0]} and run "
            "again"
        )
    chosen = [by_row[row] for row in rows]
    tokenizer = read_metadata(texts[0], "tokenizer_sha256")
    write_rows(out, chosen, TEXT_SCHEMA, spec=spec, tokenizer_sha256=tokenizer)
    record = {
        "schema": 1,
        "spec": spec,
        "rows": len(chosen),
        "finished": sum(row["finish_reason"] == "stop" for row in chosen),
        "teacher_tokens": sum(len(row["response_ids"] or []) for row in chosen),
        "teacher_flops": sum(row["teacher_flops"] for row in chosen),
        "teacher_seconds": sum(row["teacher_seconds"] for row in chosen),
    }
    write_json(Path(out).with_suffix(".json"), record)


def write_card(study: str, teacher: str, curation: str, cache: str, out: str | Path) -> None:
    """Write the data-set card of a folder of shards."""
    write_text(out, CARD.format(study=study, teacher=teacher, curation=curation, cache=cache))
