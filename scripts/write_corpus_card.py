"""Write the data-set card of a folder of shards of a corpus."""

from distill.data.cards import write_corpus_card
from distill.runtime.job import job

with job(snakemake):
    write_corpus_card(**snakemake.params.spec, out=snakemake.output.card)
