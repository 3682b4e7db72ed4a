"""Take one part of candidate prompts from a data set."""

from distill.data.prompts import slice_part
from distill.runtime.job import job

with job(snakemake):
    slice_part(
        rows=snakemake.input.rows,
        out=snakemake.output.part,
        spec=snakemake.params.spec,
        source=snakemake.params.source,
    )
