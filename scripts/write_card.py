"""Write the data-set card of a folder of shards."""

from distill.data.cards import write_card
from distill.runtime.job import job

with job(snakemake):
    write_card(
        **snakemake.params.spec,
        out=snakemake.output.card,
        records=list(snakemake.input.records),
        data=list(snakemake.input.data),
    )
