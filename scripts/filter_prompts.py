"""Drop near-duplicates from one part of candidates and keep exactly part_size prompts."""

from distill.data.prompts import keep_part
from distill.runtime.job import job

with job(snakemake):
    keep_part(
        raw=snakemake.input.raw,
        earlier=list(snakemake.input.earlier),
        out=snakemake.output.part,
        spec=snakemake.params.spec,
    )
