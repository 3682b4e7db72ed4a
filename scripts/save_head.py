"""Save a teacher's output head."""

from pathlib import Path

from distill.job import job
from distill.models import load_model, resolve_precision
from distill.scores import head_of, save_head

with job(snakemake):
    precision = resolve_precision(snakemake.params.spec["decoding"]["precision"])
    folder = Path(snakemake.input.model[0]).parent
    save_head(head_of(load_model(folder, precision=precision, sequence=8)), snakemake.output.head)
