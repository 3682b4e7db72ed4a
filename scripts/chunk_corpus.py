"""Cut a corpus into chunks of equal length, held-out documents apart."""

from distill.runtime.job import job

with job(snakemake, without=("torch",)):
    from distill.data.corpus_chunks import chunk_files

    chunk_files(
        texts=list(snakemake.input.texts),
        model=snakemake.input.model,
        spec=snakemake.params.spec,
        out=dict(snakemake.output.items()),
    )
