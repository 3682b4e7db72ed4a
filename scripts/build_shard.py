"""Collect the training rows of one run."""

from distill.data.shards import build_shard
from distill.runtime.job import job

with job(snakemake):
    files = snakemake.input
    build_shard(
        texts=list(files.texts),
        rows=snakemake.params.rows,
        spec=snakemake.params.spec,
        out=snakemake.output.shard,
        targets=list(files.targets),
        layers=list(files.layers),
        manifest=files.manifest[0] if files.manifest else None,
        decisions=files.decisions[0] if files.decisions else None,
    )
