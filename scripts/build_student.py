"""Build a student before training."""

from pathlib import Path

from distill.runtime.imports import quick_imports
from distill.runtime.job import job

with job(snakemake):
    with quick_imports():
        from distill.models.building import build_student
    folder = Path(snakemake.input.model).parent
    texts = list(snakemake.input.vocabulary)
    build_student(snakemake.params.spec, folder, snakemake.output.manifest, texts)
