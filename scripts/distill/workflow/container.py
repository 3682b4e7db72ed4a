"""The definition of a container image with the environments in envs/."""

import shutil
import subprocess
import sys
from pathlib import Path

from distill.core.errors import UserError

DEFINITION = "envs/container.def"
SNAKEMAKES = "From: condaforge/miniforge3:latest\n"
# Miniforge 26.7.2-0, x86-64 and ARM. Apptainer does not accept a tag together with a digest.
DIGEST = "eeb947cc87d61d46820b123bd7c26e1cbdc4b182ff7d0331e501a32a936b82e3"
POST = "\n%post\n"  # the final `conda clean` leaves pip's cache, so pip must not keep one


def definition(root: Path) -> str:
    """Generate a project's definition with Snakemake, and pin its base image.

    Raises:
        UserError: conda is missing, Snakemake fails, or its output has another form.
    """
    if shutil.which("conda") is None:
        raise UserError("snakemake --containerize needs conda, which is not on the PATH; add it")
    command = [sys.executable, "-m", "snakemake", "--cores", "1", "--containerize", "apptainer"]
    generated = subprocess.run(command, cwd=root, capture_output=True, text=True)
    if generated.returncode:
        raise UserError(f"snakemake --containerize failed: {generated.stderr.strip()[-1000:]}")
    for part in (SNAKEMAKES, POST):
        if generated.stdout.count(part) != 1:
            raise UserError(
                f"the output of snakemake --containerize must have {part.strip()!r} once"
            )
    pinned = generated.stdout.replace(SNAKEMAKES, f"From: condaforge/miniforge3@sha256:{DIGEST}\n")
    return pinned.replace(POST, f"{POST}    export PIP_NO_CACHE_DIR=1\n")
