"""Collect all records of the study in the runs table and its side records."""

from distill.runtime.job import job
from distill.table.collect import collect

with job(snakemake):
    files = snakemake.input
    collect(
        spec=snakemake.params.spec,
        metrics=list(files.metrics),
        responses=list(files.responses),
        shards=list(files.shards),
        decisions=list(files.decisions),
        efficiency=list(files.efficiency),
        teachers=list(files.teachers),
        near_duplicates=files.near_duplicates,
        searches=list(files.searches),
        trained=list(files.trained),
        benchmarks=list(files.benchmarks),
        out=dict(snakemake.output.items()),
    )
