"""Save a teacher's output head."""

from pathlib import Path

from distill.imports import quick_imports
from distill.job import job
from distill.out_of_memory import SMALLER_TEACHER, memory_hint

with job(snakemake), memory_hint("opening a teacher", SMALLER_TEACHER):
    with quick_imports():
        from distill.cpu import set_up_cpu
        from distill.models import load_teacher
        from distill.states import head_of, save_head
    spec = snakemake.params.spec
    set_up_cpu(spec["threads"])
    model = load_teacher(Path(snakemake.input.model).parent, spec, sequence=16)
    save_head(head_of(model), snakemake.output.head)
