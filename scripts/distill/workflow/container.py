"""The definition of an image with the environments in envs/, which Snakemake generates."""

import shutil
import subprocess
import sys
from pathlib import Path

from distill.core.errors import UserError

DEFINITION = "envs/container.def"
SNAKEMAKES = "From: condaforge/miniforge3:latest\n"
# Miniforge 26.7.2-0, x86-64 and ARM. Apptainer takes no tag beside a digest.
DIGEST = "eeb947cc87d61d46820b123bd7c26e1cbdc4b182ff7d0331e501a32a936b82e3"
POST = "\n%post\n"  # `conda clean` at its end leaves pip's cache, so pip is to keep none


def definition(root: Path) -> str:
    """The definition that Snakemake generates of a project, on a pinned base image.

    Raises:
        UserError: Snakemake fails, as without conda, or words it in another way.
    """
    if shutil.which("conda") is None:
        raise UserError("conda is not on the PATH, and snakemake --containerize asks it; add it")
    command = [sys.executable, "-m", "snakemake", "--cores", "1", "--containerize", "apptainer"]
    generated = subprocess.run(command, cwd=root, capture_output=True, text=True)
    if generated.returncode:
        raise UserError(f"snakemake --containerize failed: {generated.stderr.strip()[-1000:]}")
    for part in (SNAKEMAKES, POST):
        if generated.stdout.count(part) != 1:
            raise UserError(f"snakemake --containerize prints no {part.strip()!r} to be replaced")
    pinned = generated.stdout.replace(SNAKEMAKES, f"From: condaforge/miniforge3@sha256:{DIGEST}\n")
    return pinned.replace(POST, f"{POST}    export PIP_NO_CACHE_DIR=1\n")
