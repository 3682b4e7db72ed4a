"""Train one student on one shard; the n = 0 student is saved as it is."""

from pathlib import Path

from distill.core.files import sha256_of
from distill.runtime.imports import leave_out, quick_imports
from distill.runtime.job import job

with job(snakemake):
    spec, files = snakemake.params.spec, snakemake.input
    if not spec.get("train", {}).get("lora"):
        leave_out("peft")
    with quick_imports():
        from distill.core.keys import digest
        from distill.runtime.cpu import set_up_cpu
        from distill.training.launch import launch_training

    set_up_cpu(spec["train"]["threads"] if "train" in spec else 1)
    named = (*files.shard, *files.validation, *files.best, *files.teacher)
    read = [Path(path) for path in named]
    launch_training(
        initial=Path(files.initial).parent,
        shard=files.shard[0] if files.shard else None,
        out=snakemake.output.record,
        spec=spec,
        run=snakemake.params.run,
        tag=digest([spec, snakemake.params.code, [sha256_of(path) for path in read]]),
        heads=list(files.heads),
        validation=list(files.validation),
        best=files.best[0] if files.best else None,
        teacher=Path(files.teacher[0]).parent if files.teacher else None,
        attempt=snakemake.resources.attempt,
    )
