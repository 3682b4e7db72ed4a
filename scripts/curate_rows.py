"""Select the rows of a shard from the teacher's text."""

from distill.data.curation import curate_files
from distill.runtime.job import job

with job(snakemake):
    curate_files(
        texts=list(snakemake.input.texts),
        places=snakemake.params.rows,
        spec=snakemake.params.spec,
        name=snakemake.params.name,
        text=snakemake.output.text,
        decisions=snakemake.output.decisions,
        losses=list(snakemake.input.losses),
        donors=list(snakemake.input.donors),
    )
