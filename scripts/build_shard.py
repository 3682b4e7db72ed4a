"""Gather the rows that one student reads."""

from distill.data.shards import build_shard
from distill.runtime.job import job

with job(snakemake):
    build_shard(
        list(snakemake.input.texts),
        snakemake.params.rows,
        snakemake.params.spec,
        snakemake.output.shard,
        targets=list(snakemake.input.targets),
        layers=list(snakemake.input.layers),
        manifest=snakemake.input.manifest[0] if snakemake.input.manifest else None,
        decisions=snakemake.input.decisions[0] if snakemake.input.decisions else None,
    )
