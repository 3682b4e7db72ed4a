"""Save a teacher's output head."""

from pathlib import Path

from distill.runtime.imports import quick_imports
from distill.runtime.job import job
from distill.runtime.out_of_memory import SMALLER_TEACHER, memory_hint

with job(snakemake), memory_hint("opening a teacher", SMALLER_TEACHER):
    with quick_imports():
        from distill.models.head_extraction import head_of
        from distill.models.heads import save_head
        from distill.models.opening import load_teacher
        from distill.runtime.cpu import set_up_cpu
    spec = snakemake.params.spec
    set_up_cpu(spec["threads"])
    model = load_teacher(Path(snakemake.input.model).parent, spec, sequence=16)
    save_head(head_of(model), snakemake.output.head)
