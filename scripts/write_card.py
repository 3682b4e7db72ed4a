"""Write the data-set card of a folder of shards."""

from distill.data.cards import write_card
from distill.runtime.job import job

with job(snakemake):
    records = list(snakemake.input.records)
    write_card(**snakemake.params.spec, out=snakemake.output.card, records=records)
