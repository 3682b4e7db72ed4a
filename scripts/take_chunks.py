"""Write one part of a corpus's chunks as rows of text, masked for task masked-lm."""

from distill.runtime.job import job

with job(snakemake, without=("torch",)):
    from distill.data.corpus_chunks import take_part

    take_part(
        file=snakemake.input.chunks,
        model=snakemake.input.model,
        spec=snakemake.params.spec,
        split=snakemake.wildcards.split,
        first=snakemake.params.first,
        rows=snakemake.params.rows,
        out=snakemake.output.part,
    )
