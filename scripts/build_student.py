"""Build a student before training."""

from pathlib import Path

from distill.job import job
from distill.students import build_student

with job(snakemake):
    folder = Path(snakemake.input.model).parent
    texts = list(snakemake.input.vocabulary)
    build_student(snakemake.params.spec, folder, snakemake.output.manifest, texts)
