"""The software behind a result: versions of packages and revision of the code."""

import platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

CODE = ("Snakefile", "rules", "scripts", "envs", "report")
PACKAGES = ("torch", "transformers", "datasets", "pyarrow", "snakemake")


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that results depend on."""
    numbers = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            numbers[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return numbers


def git_revision(project: Path = Path(__file__).parents[3]) -> dict[str, Any] | None:
    """Commit of the project and whether its code has uncommitted changes; None outside git.

    Untracked files in the folders of code count as changes.
    """
    git = ["git", "-C", str(project)]
    commit = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True)
    if commit.returncode:
        return None
    status = subprocess.run(
        [*git, "status", "--porcelain", "--untracked-files=all", "--", *CODE],
        capture_output=True,
        text=True,
    )
    dirty = bool(status.returncode or status.stdout.strip())
    return {"commit": commit.stdout.strip(), "dirty": dirty}
