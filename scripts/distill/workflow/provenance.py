"""The provenance record of a study's results, and the comparison of results with it.

The record holds settings, revision of the code, packages, hardware, seeds and the SHA-256 of inputs
and outputs. Paths of outputs are relative to it, so copied results can be verified too.
"""

import os
import platform
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from distill.core.errors import UserError
from distill.core.files import read_json, sha256_of, write_json
from distill.runtime.environment import git_revision, versions

FILE = "provenance.json"


def _different(values: Iterable[Any]) -> list[Any]:
    """Each value once, in order of appearance; values need not be hashable."""
    unique: list[Any] = []
    for value in values:
        if value not in unique:
            unique.append(value)
    return unique


def _of_student(record: Path) -> dict[str, str]:
    """SHA-256 of a student's files by path; its weights have the digests of the evaluation."""
    weights = read_json(record)["model"]["sha256"]
    digests = {str(record.parent / name): str(digest) for name, digest in weights.items()}
    beside = (path for path in record.parent.glob("[!.]*") if path.is_file())
    return {str(path): sha256_of(path) for path in beside if str(path) not in digests} | digests


def _packages() -> dict[str, str]:
    """The version of every package of this environment."""
    packages = metadata.distributions()
    return dict(sorted((str(package.name).lower(), package.version) for package in packages))


def describe(
    folder: Path,
    spec: Mapping[str, Any],
    outputs: Sequence[Path],
    records: Sequence[Path],
    manifests: Sequence[Path],
    data: Sequence[Path],
) -> dict[str, Any]:
    """Build the provenance record of a study.

    Args:
        folder: The study's results.
        spec: config (validated, with defaults) and runs (names, numbers and seeds).
        outputs: Final files of the study, below `folder`.
        records: metrics.json of each student, below `folder`, beside its model.
        manifests: manifest.json of each fetched model.
        data: The data sets.

    Returns:
        schema, config, runs; git, versions, packages and machine of this process; made_with: the
        different values of git, versions and hardware in the evaluations; inputs and outputs:
        SHA-256 by path, with outputs relative to `folder`. Digests of weights are those that the
        evaluation recorded.
    """
    read = [read_json(record) for record in records]
    inputs: dict[str, str] = {str(path): sha256_of(path) for path in data}
    for manifest in manifests:
        for file in read_json(manifest)["files"]:
            inputs[str(manifest.parent / file["name"])] = file["sha256"]
    digests: dict[str, str] = {}
    for record in records:
        digests |= _of_student(record)
    digests |= {str(path): sha256_of(path) for path in outputs if str(path) not in digests}
    return {
        "schema": 1,
        **spec,
        "git": git_revision(),
        "versions": versions(),
        "packages": _packages(),
        "machine": {"system": platform.platform(), "cpus": os.cpu_count()},
        "made_with": {
            key: _different(record[key] for record in read)
            for key in ("git", "versions", "hardware")
        },
        "inputs": dict(sorted(inputs.items())),
        "outputs": {str(Path(path).relative_to(folder)): digests[path] for path in sorted(digests)},
    }


@dataclass(frozen=True)
class Verdict:
    """The comparison of a folder of results with its record.

    Attributes:
        outputs: Number of output files in the record.
        inputs: Number of model and data files in the record that exist here.
        wrong: A sentence for each file that differs.
        further: Files in the folder that the record does not list, without checkpoints and training
            logs.
    """

    outputs: int
    inputs: int
    wrong: list[str]
    further: list[str]


def verify(folder: Path) -> Verdict:
    """Compare a folder of results with its record, and models and data if they exist here.

    Args:
        folder: Contains provenance.json; it may be a copy. Paths of models and data are relative to
            the folder that contains `results`.

    Raises:
        UserError: The record is missing or damaged.
    """
    if not (folder / FILE).is_file():
        raise UserError(f"{folder} has no {FILE}; name the results folder of a finished study")
    record = read_json(folder / FILE)
    outputs, inputs = (
        record.get(key) if isinstance(record, dict) else None for key in ("outputs", "inputs")
    )
    if not isinstance(outputs, dict) or not outputs or not isinstance(inputs, dict):
        raise UserError(f"{folder / FILE} lists no outputs; delete it and run the study again")
    project = folder.absolute().parent.parent
    near = {name: digest for name, digest in inputs.items() if (project / name).is_file()}
    wrong = [
        sentence
        for place, digests, verb in ((folder, outputs, "wrote"), (project, near, "read"))
        for name, digest in digests.items()
        if (sentence := _difference(place, name, digest, verb))
    ]
    there = (path.relative_to(folder) for path in sorted(folder.rglob("*")) if path.is_file())
    further = [str(path) for path in there if not {"tensorboard", "resume"} & {*path.parts}]
    further = [name for name in further if name not in outputs and name != FILE]
    return Verdict(len(outputs), len(near), wrong, further)


def _difference(folder: Path, name: str, digest: str, verb: str) -> str | None:
    """How a file differs from its record; None if it does not."""
    path = folder / name
    if ".." in Path(name).parts or (Path(name).is_absolute() and verb == "wrote"):
        return f"{name}: is outside the folder of results"
    if not path.is_file():
        return f"{name}: is missing"
    return None if sha256_of(path) == digest else f"{name}: differs from what the study {verb}"


def write_provenance(
    out: str | Path,
    spec: Mapping[str, Any],
    outputs: Iterable[str | Path],
    records: Iterable[str | Path],
    manifests: Iterable[str | Path],
    data: Iterable[str | Path],
) -> None:
    """Write the provenance record of a study; for the other arguments see `describe`.

    Args:
        out: provenance.json, in the study's results.
    """
    files = [[Path(file) for file in group] for group in (outputs, records, manifests, data)]
    write_json(out, describe(Path(out).parent, spec, *files))
