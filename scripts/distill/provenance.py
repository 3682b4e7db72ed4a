"""Where a study's results come from, and whether they are still what was written.

One record names the study's settings, the code's revision, packages, hardware, seeds and SHA-256
of what went in and what came out. Paths of outputs are relative to the record, so that results
copied elsewhere can be checked there.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from distill.environment import git_revision, versions
from distill.files import UserError, read_json

FILE = "provenance.json"


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _different(found: Iterable[Any]) -> list[Any]:
    """Each value once, in the order of their appearance."""
    kept: list[Any] = []
    for item in found:
        if item not in kept:
            kept.append(item)
    return kept


def _of_model(record: Path) -> dict[str, str]:
    """A record of a student's evaluation, and the weights that it measured."""
    made = read_json(record)["model"]["sha256"]
    found = {str(record): sha256_of(record)}
    return found | {str(record.parent / name): digest for name, digest in made.items()}


def describe(
    folder: Path,
    spec: Mapping[str, Any],
    outputs: Sequence[Path],
    records: Sequence[Path],
    manifests: Sequence[Path],
    data: Sequence[Path],
) -> dict[str, Any]:
    """The record of a study's origin.

    Args:
        folder: The study's results.
        spec: config (as it was checked) and runs (their names and numbers, seeds among them).
        outputs: Final files below `folder`.
        records: metrics.json of each student, below `folder`, the model beside it.
        manifests: manifest.json of each model that the study began from.
        data: Each data set, as it was read.

    Returns:
        schema, config, runs, git (of the code that finished the study), versions, made_with (git,
        versions and hardware of the evaluations, each different one once), inputs and outputs:
        SHA-256 by path, that of outputs relative to `folder`.
    """
    read = [read_json(record) for record in records]
    inputs: dict[str, str] = {str(path): sha256_of(path) for path in data}
    for manifest in manifests:
        for file in read_json(manifest)["files"]:
            inputs[str(manifest.parent / file["name"])] = file["sha256"]
    made = {str(path): sha256_of(path) for path in outputs}
    for record in records:
        made |= _of_model(record)
    return {
        "schema": 1,
        **spec,
        "git": git_revision(),
        "versions": versions(),
        "made_with": {
            key: _different(record[key] for record in read)
            for key in ("git", "versions", "hardware")
        },
        "inputs": dict(sorted(inputs.items())),
        "outputs": {str(Path(path).relative_to(folder)): made[path] for path in sorted(made)},
    }


def changed_outputs(folder: Path) -> tuple[int, list[str]]:
    """Compare a folder of results with its record.

    Args:
        folder: Holds provenance.json; wherever it was copied to.

    Returns:
        The number of files that the record names, and a sentence for each that is not as written.

    Raises:
        UserError: There is no record, or it is damaged.
    """
    if not (folder / FILE).is_file():
        raise UserError(f"{folder} holds no {FILE}; name the folder of a finished study's results")
    record = read_json(folder / FILE)
    named = record.get("outputs")
    if not isinstance(named, dict) or not named:
        raise UserError(f"{folder / FILE} names no outputs; run the study again to renew it")
    wrong = []
    for name, digest in named.items():
        path = folder / name
        if not path.resolve().is_relative_to(folder.resolve()):
            wrong.append(f"{name}: lies outside the folder of results")
        elif not path.is_file():
            wrong.append(f"{name}: is missing")
        elif sha256_of(path) != digest:
            wrong.append(f"{name}: is not what the study wrote")
    return len(named), wrong
