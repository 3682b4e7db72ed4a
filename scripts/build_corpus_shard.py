"""Collect the corpus chunks of one run."""

from distill.runtime.job import job

with job(snakemake, without=("torch",)):
    from distill.data.corpus_shards import build_shard_of_corpus

    build_shard_of_corpus(
        corpus=snakemake.input.corpus,
        reference=snakemake.input.reference or None,
        model=snakemake.input.model,
        out=snakemake.output.shard,
        spec=snakemake.params.spec,
    )
