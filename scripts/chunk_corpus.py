"""Split the documents of a corpus and cut each split into chunks of equal length."""

from distill.runtime.job import job

with job(snakemake, without=("torch",)):
    from distill.data.corpus_chunks import chunk_files

    chunk_files(
        texts=list(snakemake.input.texts),
        model=snakemake.input.model,
        spec=snakemake.params.spec,
        out=dict(snakemake.output.items()),
    )
