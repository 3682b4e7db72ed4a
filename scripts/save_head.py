"""Save a teacher's output head."""

from pathlib import Path

from distill.job import job
from distill.models import load_teacher, use_threads
from distill.states import head_of, save_head

with job(snakemake):
    spec = snakemake.params.spec
    use_threads(spec["threads"])
    model = load_teacher(Path(snakemake.input.model).parent, spec, sequence=16)
    save_head(head_of(model), snakemake.output.head)
