"""Where a study's results come from, and whether they are still what was written.

One record names the study's settings, the code's revision, packages, hardware, seeds and SHA-256
of what went in and what came out. Paths of outputs are relative to the record, so that results
copied elsewhere can be checked there.
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


def _different(found: Iterable[Any]) -> list[Any]:
    """Each value once, in the order of their appearance."""
    kept: list[Any] = []
    for item in found:
        if item not in kept:
            kept.append(item)
    return kept


def _of_student(record: Path) -> dict[str, str]:
    """A record of a student's evaluation, what lies beside it, and the weights that it measured."""
    made = read_json(record)["model"]["sha256"]
    found = {str(record.parent / name): str(digest) for name, digest in made.items()}
    beside = (path for path in record.parent.glob("[!.]*") if path.is_file())
    return {str(path): sha256_of(path) for path in beside if str(path) not in found} | found


def _packages() -> dict[str, str]:
    """Every package of this environment, with its version."""
    found = metadata.distributions()
    return dict(sorted((str(package.name).lower(), package.version) for package in found))


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
        spec: config (as it was checked, defaults filled in) and runs (names, numbers and seeds).
        outputs: Files below `folder` that the study promises.
        records: metrics.json of each student, below `folder`, the model beside it.
        manifests: manifest.json of each model that the study began from.
        data: Each data set, as it was read.

    Returns:
        schema, config, runs, git (of the code that finished the study), versions, packages and
        machine (all where it was finished), made_with (git, versions and hardware of the
        evaluations, each different one once), inputs and outputs: SHA-256 by path, that of outputs
        relative to `folder`. Weights are named as they were evaluated.
    """
    read = [read_json(record) for record in records]
    inputs: dict[str, str] = {str(path): sha256_of(path) for path in data}
    for manifest in manifests:
        for file in read_json(manifest)["files"]:
            inputs[str(manifest.parent / file["name"])] = file["sha256"]
    made: dict[str, str] = {}
    for record in records:
        made |= _of_student(record)
    made |= {str(path): sha256_of(path) for path in outputs if str(path) not in made}
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
        "outputs": {str(Path(path).relative_to(folder)): made[path] for path in sorted(made)},
    }


@dataclass(frozen=True)
class Verdict:
    """What came of comparing a folder of results with its record.

    Attributes:
        outputs: Number of files that the record names.
        inputs: Number of models' and data files that it names, and that are at hand here.
        wrong: A sentence for each that is not as written.
        further: Files in the folder that the record does not name, apart from what only a job
            reads again (resume) and logs of training.
    """

    outputs: int
    inputs: int
    wrong: list[str]
    further: list[str]


def verify(folder: Path) -> Verdict:
    """Compare a folder of results with its record; models and data too, where they are at hand.

    Args:
        folder: Holds provenance.json; wherever it was copied to. Models and data are looked for
            from where `results` lies, as in the project.

    Raises:
        UserError: There is no record, or it is damaged.
    """
    if not (folder / FILE).is_file():
        raise UserError(f"{folder} holds no {FILE}; name the folder of a finished study's results")
    record = read_json(folder / FILE)
    outputs, inputs = (
        record.get(key) if isinstance(record, dict) else None for key in ("outputs", "inputs")
    )
    if not isinstance(outputs, dict) or not outputs or not isinstance(inputs, dict):
        raise UserError(f"{folder / FILE} names no outputs; run the study again to renew it")
    project = folder.absolute().parent.parent
    near = {name: digest for name, digest in inputs.items() if (project / name).is_file()}
    wrong = [
        sentence
        for place, named, verb in ((folder, outputs, "wrote"), (project, near, "read"))
        for name, digest in named.items()
        if (sentence := _difference(place, name, digest, verb))
    ]
    there = (path.relative_to(folder) for path in sorted(folder.rglob("*")) if path.is_file())
    further = [str(path) for path in there if not {"tensorboard", "resume"} & {*path.parts}]
    further = [name for name in further if name not in outputs and name != FILE]
    return Verdict(len(outputs), len(near), wrong, further)


def _difference(folder: Path, name: str, digest: str, verb: str) -> str | None:
    """What is wrong with a file that a record names; None if it is as it was."""
    path = folder / name
    if ".." in Path(name).parts or (Path(name).is_absolute() and verb == "wrote"):
        return f"{name}: lies outside the folder of results"
    if not path.is_file():
        return f"{name}: is missing"
    return None if sha256_of(path) == digest else f"{name}: is not what the study {verb}"


def write_provenance(
    out: str | Path,
    spec: Mapping[str, Any],
    outputs: Iterable[str | Path],
    records: Iterable[str | Path],
    manifests: Iterable[str | Path],
    data: Iterable[str | Path],
) -> None:
    """Write where the study's results come from; see `describe`.

    Args:
        out: provenance.json, in the study's results.
        spec, outputs, records, manifests, data: As of `describe`.
    """
    files = [[Path(file) for file in group] for group in (outputs, records, manifests, data)]
    write_json(out, describe(Path(out).parent, spec, *files))
