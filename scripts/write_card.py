"""Write the data-set card of a folder of shards."""

from distill.job import job
from distill.shards import write_card

with job(snakemake):
    records = list(snakemake.input.records)
    write_card(**snakemake.params.spec, out=snakemake.output.card, records=records)
