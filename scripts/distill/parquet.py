"""Parquet files that carry their spec, written whole and read with a clear error."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from distill.files import UserError, replacing


def write_rows(
    path: str | Path, rows: Sequence[dict[str, Any]], schema: pa.Schema, **metadata: Any
) -> None:
    """Write rows atomically, zstd-compressed, with JSON `metadata` in the file's schema."""
    table = pa.Table.from_pylist(list(rows), schema=schema)
    extra = {key: json.dumps(value) for key, value in metadata.items()}
    table = table.replace_schema_metadata({**(schema.metadata or {}), **extra})
    with replacing(path) as temporary:
        # Statistics and dictionaries would copy whole blobs into the page headers.
        plain = [field.name for field in schema if not pa.types.is_large_binary(field.type)]
        pq.write_table(
            table, temporary, compression="zstd", use_dictionary=plain, write_statistics=plain
        )


def read_table(path: str | Path, columns: list[str] | None = None) -> pa.Table:
    """Read a Parquet file.

    Raises:
        UserError: It is missing or damaged, or lacks a column.
    """
    try:
        if columns and (missing := set(columns) - set(pq.read_schema(path).names)):
            raise UserError(f"{path} lacks the column {', '.join(sorted(missing))}")
        table = pq.read_table(path, columns=columns)
    except FileNotFoundError:
        raise UserError(f"{path} is missing; run the workflow again to make it") from None
    except (pa.ArrowInvalid, OSError) as error:
        raise UserError(
            f"{path} is not a readable Parquet file ({str(error).splitlines()[0]}); delete it and "
            "run the workflow again"
        ) from None
    return table


def read_schema(path: str | Path) -> pa.Schema:
    """The schema of a Parquet file."""
    return pq.read_schema(path)


def plain_schema(path: str | Path) -> pa.Schema:
    """The columns of a Parquet file, without what its writer noted beside them."""
    return pa.schema([field.remove_metadata() for field in pq.read_schema(path)])


def read_rows(paths: Sequence[str | Path] | str | Path) -> list[dict[str, Any]]:
    """Read the rows of one or several Parquet files, in order."""
    several = [paths] if isinstance(paths, (str, Path)) else paths
    return [row for path in several for row in read_table(path).to_pylist()]


def read_metadata(path: str | Path, key: str) -> Any:
    """A JSON value from the metadata of a Parquet file's schema."""
    return json.loads(pq.read_schema(path).metadata[key.encode()])
