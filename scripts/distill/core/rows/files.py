"""The files of a data set: what a path, folder or pattern names, their formats, their bytes."""

import bz2
import gzip
import importlib.util
import io
import json
import lzma
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from distill.core.errors import UserError

FORMATS = {
    ".csv": "csv",
    ".tsv": "tsv",
    ".tab": "tsv",
    ".json": "json",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".jsonlines": "jsonl",
    ".parquet": "parquet",
    ".pq": "parquet",
    ".arrow": "arrow",
    ".feather": "arrow",
    ".xlsx": "sheet",
    ".xlsm": "sheet",
    ".xls": "sheet",
    ".ods": "sheet",
    ".txt": "lines",
}
"""Format of a file by the ending of its name, in lower case."""
ENDINGS = "csv, tsv, json, jsonl, ndjson, parquet, arrow, xlsx or txt"
PACKAGES = {"parquet": "pyarrow", "arrow": "pyarrow", "zstd": "pyarrow", "sheet": "python_calamine"}
"""Package that reads a format or compression; the standard library reads the others."""
_PACKED = {".gz", ".bz2", ".xz", ".zst", ".zstd"}
_COMPRESSIONS = {b"\x1f\x8b": "gzip", b"BZh": "bz2", b"\xfd7zXZ": "xz", b"\x28\xb5\x2f\xfd": "zstd"}
_CONTENTS = {b"PAR1": "parquet", b"ARROW1": "arrow", b"\xff\xff\xff\xff": "arrow"}
_SHEETS = (b"PK\x03\x04", b"\xd0\xcf\x11\xe0")
"""First bytes of a ZIP archive (xlsx, ods) and of an old Excel file."""
_SPLITS = {
    "train": "train", "training": "train",
    "test": "test", "testing": "test", "eval": "test", "evaluation": "test",
    "validation": "validation", "valid": "validation", "val": "validation", "dev": "validation",
}  # fmt: skip
"""Split of a file by a word of its name, as the Hugging Face library reads folders."""
_BESIDE = {"dataset_info.json", "dataset_infos.json", "state.json", "dataset_dict.json"}


class DataFile(NamedTuple):
    """A file of rows."""

    path: Path
    form: str
    """A value of `FORMATS`."""
    packing: str
    """gzip, bz2, xz or zstd; empty for a file that is not compressed."""


def data_files(path: str | Path, split: str = "train") -> list[Path]:
    """The files that a data source's path names, in the order in which they are read.

    Args:
        path: A file, a folder of files or of a saved data set, or a pattern with `*`, `?` or `[`;
            a leading `~` is the home directory.
        split: Which files of a folder: those whose names contain the split, if any name does.

    Raises:
        UserError: There is no such file, or a folder without this split.
    """
    place = Path(path).expanduser()
    try:
        if place.is_dir():
            return _folder_files(place, split)
        if place.is_file():
            return [place]
        if place.is_symlink():
            raise UserError(
                f"{place} is a broken link to {place.readlink()}; correct or replace it"
            )
        if re.search(r"[*?[]", str(place)):
            if matches := _matches(place):
                return matches
            raise UserError(f"no file matches {place}; correct the pattern")
        if place.exists():
            raise UserError(f"{place} is neither a file nor a folder; name a file")
        raise UserError(f"the file {place} does not exist{_similar(place)}")
    except OSError as error:
        raise UserError(f"{place} cannot be read ({error.strerror}); check its rights") from None


def _matches(pattern: Path) -> list[Path]:
    """The files that match a pattern."""
    start = Path(pattern.anchor)
    inside = str(pattern.relative_to(start)) if pattern.anchor else str(pattern)
    return sorted(file for file in start.glob(inside) if file.is_file())


def _similar(place: Path) -> str:
    """A suggestion of the nearest name in a missing file's folder."""
    if not place.parent.is_dir():
        return ""
    names = {file.name.lower(): file.name for file in place.parent.iterdir()}
    near = get_close_matches(place.name.lower(), names, 1, 0.8)
    near += [name for name in names if name.startswith(f"{place.stem.lower()}.")]
    return f"; did you mean {place.parent / names[near[0]]}?" if near else ""


def _folder_files(folder: Path, split: str) -> list[Path]:
    """Files of a folder: a data set that the `datasets` library saved, or files of one format."""
    if (folder / "dataset_dict.json").is_file():
        splits = _read_json(folder / "dataset_dict.json").get("splits", [])
        if split not in splits:
            raise _no_split(folder, split, splits)
        return _folder_files(folder / split, split)
    if (folder / "state.json").is_file():
        entries = _read_json(folder / "state.json").get("_data_files", [])
        return [folder / entry["filename"] for entry in entries]
    files = sorted(
        file
        for file in folder.rglob("*")
        if file.is_file() and _ending(file) in FORMATS and file.name not in _BESIDE
        if not any(part[0] in "._" for part in file.relative_to(folder).parts)
    )
    if not files:
        raise UserError(f"the folder {folder} holds no data file; one ends in {ENDINGS}")
    names = {file: _split_of(file.relative_to(folder)) for file in files}
    if any(names.values()):
        files = [file for file in files if names[file] == _SPLITS.get(split, split)]
        if not files:
            raise _no_split(folder, split, sorted({name for name in names.values() if name}))
    kinds = Counter(_ending(file) for file in files)
    if len(kinds) > 1:
        counts = " and ".join(f"{count} {kind}" for kind, count in kinds.items())
        raise UserError(
            f"the folder {folder} holds files of several formats ({counts}); name those of one, "
            f"such as {folder}/*{next(iter(kinds))}"
        )
    return files


def _read_json(path: Path) -> dict[str, list[Any]]:
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        record = None
    if not isinstance(record, dict):
        raise UserError(f"{path} is damaged; save the data set again")
    return record


def _no_split(place: Path, split: str, splits: Sequence[str]) -> UserError:
    return UserError(
        f"{place} has no split {split!r} but {', '.join(splits) or 'none at all'}; set the "
        "source's split to one of them"
    )


def _split_of(file: Path) -> str | None:
    """The split that the name of a file, or else that of its folder, contains."""
    for name in reversed(file.parts):
        for word in re.findall("[a-z]+", name.lower()):
            if word in _SPLITS:
                return _SPLITS[word]
    return None


def _ending(path: Path) -> str:
    """A file's ending in lower case, without that of a compression."""
    endings = [ending.lower() for ending in path.suffixes[-2:]]
    if endings and endings[-1] in _PACKED:
        endings.pop()
    return endings[-1] if endings else ""


def describe(path: Path) -> DataFile:
    """A file's format and compression, by its content where that tells, else by its name.

    Raises:
        UserError: It is of no format that is read.
    """
    with _readable(path):
        with path.open("rb") as stream:
            head = stream.read(8)
        packing = next((name for mark, name in _COMPRESSIONS.items() if head.startswith(mark)), "")
        ending = _ending(path)
        form = FORMATS.get(ending)
        if packing and (packing != "zstd" or importlib.util.find_spec("pyarrow")):
            with open_bytes(DataFile(path, form or "", packing)) as unpacked:
                head = unpacked.read(8)
        content = next((name for mark, name in _CONTENTS.items() if head.startswith(mark)), None)
        if head.startswith(_SHEETS) and form != "parquet":
            if path.suffix.lower() in (".zip", ".tar"):
                raise UserError(f"{path} is an archive; unpack it and name the file inside")
            content = "sheet"
    if packing and (content or form) in ("parquet", "arrow", "sheet"):
        raise UserError(f"{path} is compressed as a whole; decompress it")
    if content is None and form is None:
        raise UserError(f"{path}: a data file must end in {ENDINGS}, perhaps followed by .gz")
    return DataFile(path, content or form or "", packing)


def missing_packages(files: Sequence[DataFile]) -> list[str]:
    """Packages that these files need and this Python does not have."""
    names = {PACKAGES.get(name) for file in files for name in (file.form, file.packing)}
    return sorted(name for name in names if name and importlib.util.find_spec(name) is None)


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Turn errors of the file system and of decompression into a sentence."""
    try:
        yield
    except (EOFError, gzip.BadGzipFile, lzma.LZMAError, gzip.zlib.error) as error:  # type: ignore[attr-defined]
        raise UserError(f"{path} is damaged ({error}); copy or compress it again") from None
    except OSError as error:
        if error.strerror is None:  # of bz2 and pyarrow
            raise UserError(f"{path} is damaged ({error}); copy or compress it again") from None
        raise UserError(f"{path} cannot be read ({error.strerror}); check its rights") from None


@contextmanager
def open_bytes(file: DataFile) -> Iterator[BinaryIO]:
    """The decompressed content of a file.

    Raises:
        UserError: It cannot be read, or its compression is damaged.
    """
    with _readable(file.path), _unpacked(file) as stream:
        yield stream


def _unpacked(file: DataFile) -> BinaryIO:
    path = file.path
    if file.packing == "gzip":
        return gzip.open(path, "rb")  # type: ignore[return-value]
    if file.packing == "bz2":
        return bz2.open(path, "rb")  # type: ignore[return-value]
    if file.packing == "xz":
        return lzma.open(path, "rb")  # type: ignore[return-value]
    if file.packing == "zstd":
        from distill.core.rows.columns import open_zstd

        return io.BufferedReader(open_zstd(path))
    return path.open("rb")
