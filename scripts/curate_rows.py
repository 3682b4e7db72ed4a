"""Choose the rows of a shard from the teacher's text."""

from distill.data.curation import curate_files
from distill.runtime.job import job

with job(snakemake):
    files = snakemake.input
    curate_files(
        list(files.texts),
        snakemake.params.rows,
        snakemake.params.spec,
        snakemake.params.name,
        text=snakemake.output.text,
        decisions=snakemake.output.decisions,
        losses=list(files.losses),
        donors=list(files.donors),
    )
