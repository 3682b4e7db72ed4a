"""Rows of Parquet and Arrow files, in batches."""

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from distill.core.display import listed
from distill.core.errors import UserError
from distill.core.rows.faults import Header, Place

_BATCH = 1000
"""Rows that become Python objects together."""


def open_zstd(path: Path) -> Any:
    """A file compressed with zstd, as a stream of bytes."""
    return pa.CompressedInputStream(pa.OSFile(str(path)), "zstd")


def read_columns(
    path: Path, form: str, columns: Collection[str], header: Header
) -> Iterator[tuple[Place, dict[str, Any]]]:
    """Rows of a Parquet or Arrow file, with those of its columns that are needed.

    Args:
        path: The file.
        form: parquet or arrow.
        columns: Needed columns; others are not read.
        header: Checks the names of the file's columns.

    Raises:
        UserError: It is damaged, or a needed column appears twice.
    """
    reader = _parquet if form == "parquet" else _arrow
    number = 0
    for batch in reader(path, columns, header):
        for row in batch.to_pylist():
            number += 1
            yield Place(path, f"row {number}"), row


@contextmanager
def _damaged(path: Path, what: str) -> Iterator[None]:
    """Turn pyarrow's errors into a sentence."""
    try:
        yield
    except (pa.ArrowException, OSError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise UserError(
            f"{path} is not a readable {what} file ({reason}); write it again"
        ) from None


def _wanted(path: Path, names: list[str], columns: Collection[str], header: Header) -> list[str]:
    """The needed columns of a file.

    Raises:
        UserError: One appears twice.
    """
    for column in columns:
        if names.count(column) > 1:
            raise UserError(
                f"{path}: the column {column!r} appears twice; there are {listed(names)}"
            )
    header(path, names)
    return [column for column in columns if column in names]


def _parquet(path: Path, columns: Collection[str], header: Header) -> Iterator[pa.RecordBatch]:
    with _damaged(path, "Parquet"), pq.ParquetFile(path) as file:
        wanted = _wanted(path, file.schema_arrow.names, columns, header)
        for batch in file.iter_batches(batch_size=_BATCH, columns=wanted):
            batch.validate(full=True)  # also that text is UTF-8
            yield batch


def _arrow(path: Path, columns: Collection[str], header: Header) -> Iterator[pa.RecordBatch]:
    with _damaged(path, "Arrow"), pa.OSFile(str(path)) as source:
        try:
            file = pa.ipc.open_file(source)
            batches = (file.get_batch(place) for place in range(file.num_record_batches))
        except pa.ArrowInvalid:
            source.seek(0)
            batches = file = pa.ipc.open_stream(source)
        wanted = _wanted(path, file.schema.names, columns, header)
        for batch in batches:
            part = batch.select(wanted)
            part.validate(full=True)
            for start in range(0, part.num_rows, _BATCH):
                yield part.slice(start, _BATCH)
