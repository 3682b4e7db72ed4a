"""Train one student on one shard; the n = 0 student is saved as it is."""

from pathlib import Path

from distill.job import job
from distill.models import use_threads
from distill.plan import digest
from distill.sources import sha256_of
from distill.training import train_student

with job(snakemake):
    spec = snakemake.params.spec
    use_threads(spec["train"]["threads"] if "train" in spec else 1)
    shard = snakemake.input.shard[0] if snakemake.input.shard else None
    data = sha256_of(Path(shard)) if shard else None
    train_student(
        Path(snakemake.input.initial).parent,
        shard,
        snakemake.output.record,
        spec,
        snakemake.params.run,
        tag=digest([spec, snakemake.params.code, data]),
    )
