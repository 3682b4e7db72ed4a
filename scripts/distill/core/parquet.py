"""Parquet files with checksums: atomic writing, and reading with clear errors.

Each page has the CRC-32 of the Parquet format. The metadata contain a checksum of the columns, the
other metadata and the number of rows, so every reader detects an altered file.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from distill.core.errors import UserError
from distill.core.files import CHECKSUM, altered, replacing

_ARROW = b"ARROW:schema"
"""Entry of a Parquet file's metadata that has the columns' types."""
_BATCH = 4096
"""Rows that are read together."""


def write_table(path: str | Path, table: pa.Table, **options: Any) -> None:
    """Write a table atomically, zstd-compressed and with checksums.

    Args:
        path: The file.
        table: The table; metadata of its schema are kept.
        options: Options of `pyarrow.parquet.write_table`.
    """
    metadata = table.schema.metadata or {}
    sealed = {**metadata, CHECKSUM.encode(): _seal(table.schema, table.num_rows).encode()}
    with replacing(path) as temporary:
        pq.write_table(
            table.replace_schema_metadata(sealed),
            temporary,
            compression="zstd",
            write_page_checksum=True,
            **options,
        )


def _seal(schema: pa.Schema, rows: int) -> str:
    """SHA-256 of the columns and the metadata of a schema, and of the number of rows."""
    metadata = schema.metadata or {}
    others = sorted((key, value) for key, value in metadata.items() if key != CHECKSUM.encode())
    # Parquet and pyarrow have different names for the items of a list.
    columns = [(field.name, str(field.type).replace("<item:", "<element:")) for field in schema]
    return hashlib.sha256(repr((columns, others, rows)).encode()).hexdigest()


def write_rows(
    path: str | Path, rows: Sequence[dict[str, Any]], schema: pa.Schema, **metadata: Any
) -> None:
    """Write rows atomically, zstd-compressed, with JSON `metadata` in the file's schema."""
    table = pa.Table.from_pylist(list(rows), schema=schema)
    extra = {key: json.dumps(value) for key, value in metadata.items()}
    table = table.replace_schema_metadata({**(schema.metadata or {}), **extra})
    # Statistics and dictionaries would copy entire blobs into the page headers.
    plain = [field.name for field in schema if not pa.types.is_large_binary(field.type)]
    write_table(path, table, use_dictionary=plain, write_statistics=plain)


def write_batches(
    path: str | Path,
    batches: Iterable[Sequence[dict[str, Any]]],
    schema: pa.Schema,
    metadata: Callable[[], dict[str, Any]],
) -> None:
    """Write rows atomically in batches, zstd-compressed and with checksums; see `write_rows`.

    Args:
        path: The file.
        batches: The rows; each batch is in memory once, and is a row group of the file.
        schema: Of the rows, without metadata.
        metadata: Called when all rows are written: JSON values for the file's metadata.
    """
    rows = 0
    with (
        replacing(path) as temporary,
        pq.ParquetWriter(temporary, schema, compression="zstd", write_page_checksum=True) as writer,
    ):
        for batch in batches:
            writer.write_table(pa.Table.from_pylist(list(batch), schema=schema))
            rows += len(batch)
        extra = {key: json.dumps(value) for key, value in metadata().items()}
        seal = _seal(schema.with_metadata(extra), rows)
        writer.add_key_value_metadata(extra | {CHECKSUM: seal})


def _read(path: str | Path, reader: Callable[[str | Path], Any]) -> Any:
    """Call a reader of pyarrow, and turn its errors into a UserError."""
    try:
        return reader(path)
    except FileNotFoundError:
        raise UserError(f"{path} is missing; run the workflow again to make it") from None
    except (pa.ArrowException, OSError, ValueError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(
            f"{path} is not a readable Parquet file ({reason}); delete it and run the workflow "
            "again"
        ) from None


def _opened(path: str | Path) -> tuple[pa.Schema, int]:
    """The schema and number of rows of a Parquet file, after a check of its footer."""

    def footer(file: str | Path) -> tuple[pa.Schema, list[int]]:
        metadata = pq.read_metadata(file)
        groups = [metadata.row_group(number).num_rows for number in range(metadata.num_row_groups)]
        # Also what was added after the schema was written.
        entries = {key: value for key, value in (metadata.metadata or {}).items() if key != _ARROW}
        schema = metadata.schema.to_arrow_schema().with_metadata(entries or None)
        return schema, [metadata.num_rows, sum(groups)]

    schema, (rows, in_groups) = _read(path, footer)
    written = (schema.metadata or {}).get(CHECKSUM.encode())
    if rows != in_groups or (written and written != _seal(schema, rows).encode()):
        raise altered(path)
    return schema, rows


def read_schema(path: str | Path) -> pa.Schema:
    """The schema of a Parquet file.

    Raises:
        UserError: The file is missing or damaged.
    """
    return _opened(path)[0]


def read_table(path: str | Path, columns: list[str] | None = None) -> pa.Table:
    """Read a Parquet file.

    Raises:
        UserError: It is missing or damaged, or lacks a column.
    """
    if missing := set(columns or []) - set(read_schema(path).names):
        raise UserError(f"{path} lacks the column {', '.join(sorted(missing))}")
    return _read(
        path, lambda file: pq.read_table(file, columns=columns, page_checksum_verification=True)
    )


def check_table(path: str | Path) -> None:
    """Read a Parquet file in batches, to verify all checksums.

    Raises:
        UserError: It is missing or damaged.
    """

    def through(file: str | Path) -> None:
        for _ in pq.ParquetFile(file, page_checksum_verification=True).iter_batches(batch_size=64):
            pass

    read_schema(path)
    _read(path, through)


def read_groups(path: str | Path, groups: Sequence[int], columns: list[str]) -> pa.Table:
    """Read some row groups of a Parquet file.

    Raises:
        UserError: It is missing or damaged.
    """
    read_schema(path)
    return _read(
        path,
        lambda file: pq.ParquetFile(file, page_checksum_verification=True).read_row_groups(
            list(groups), columns=columns
        ),
    )


def count_rows(path: str | Path) -> int:
    """The number of rows of a Parquet file.

    Raises:
        UserError: It is missing or damaged.
    """
    return _opened(path)[1]


def read_frame(path: str | Path) -> Any:
    """Read a Parquet file as a pandas data frame.

    Raises:
        UserError: It is missing or damaged.
    """
    return read_table(path).to_pandas()


def plain_schema(path: str | Path) -> pa.Schema:
    """The schema of a Parquet file without metadata."""
    return pa.schema([field.remove_metadata() for field in read_schema(path)])


def read_rows(paths: Sequence[str | Path] | str | Path) -> list[dict[str, Any]]:
    """Read the rows of one or several Parquet files, in order."""
    several = [paths] if isinstance(paths, (str, Path)) else paths
    return [row for path in several for row in read_table(path).to_pylist()]


def read_batches(path: str | Path, columns: list[str]) -> Iterator[list[dict[str, Any]]]:
    """Read rows of a Parquet file in batches, so that they are not in memory together.

    Raises:
        UserError: The file is missing or damaged.
    """
    read_schema(path)
    file = _read(path, lambda name: pq.ParquetFile(name, page_checksum_verification=True))
    batches = file.iter_batches(batch_size=_BATCH, columns=columns)
    while (batch := _read(path, lambda _: next(batches, None))) is not None:
        yield batch.to_pylist()


def read_metadata(path: str | Path, key: str) -> Any:
    """A JSON value from the metadata of a Parquet file's schema.

    Raises:
        UserError: The file is missing or damaged.
    """
    metadata = read_schema(path).metadata or {}
    if key.encode() not in metadata:
        raise altered(path)
    return json.loads(metadata[key.encode()])


def merged_metadata(paths: Sequence[str | Path], key: str) -> dict[str, Any]:
    """JSON objects from the metadata of several Parquet files as one; files may lack them.

    Raises:
        UserError: A file is missing or damaged.
    """
    merged: dict[str, Any] = {}
    for path in paths:
        merged |= json.loads((read_schema(path).metadata or {}).get(key.encode(), b"{}"))
    return merged
