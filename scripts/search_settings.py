"""Search the best settings of a method for one student and shard."""

from pathlib import Path

from distill.core.files import sha256_of
from distill.runtime.imports import leave_out, quick_imports
from distill.runtime.job import job

with job(snakemake):
    spec, files = snakemake.params.spec, snakemake.input
    if not spec["train"].get("lora"):
        leave_out("peft")
    with quick_imports():
        from distill.core.keys import digest
        from distill.runtime.cpu import set_up_cpu
        from distill.training.search import search_settings

    set_up_cpu(spec["train"]["threads"])
    read = [sha256_of(Path(path)) for path in (files.shard, *files.validation, *files.teacher)]
    search_settings(
        Path(files.initial).parent,
        files.shard,
        snakemake.output.best,
        spec,
        snakemake.params.student,
        tag=digest([spec, snakemake.params.code, read]),
        heads=list(files.heads),
        validation=list(files.validation),
        teacher=Path(files.teacher[0]).parent if files.teacher else None,
        attempt=snakemake.resources.attempt,
    )
