"""Save a teacher's output head."""

from pathlib import Path

from distill.job import job
from distill.models import load_teacher, use_threads
from distill.out_of_memory import SMALLER_TEACHER, memory_hint
from distill.states import head_of, save_head

with job(snakemake), memory_hint("opening a teacher", SMALLER_TEACHER):
    spec = snakemake.params.spec
    use_threads(spec["threads"])
    model = load_teacher(Path(snakemake.input.model).parent, spec, sequence=16)
    save_head(head_of(model), snakemake.output.head)
