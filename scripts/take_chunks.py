"""Take one part of a corpus's chunks as rows of text, masked where the task asks for it."""

from pathlib import Path

from distill.data.corpus_chunks import take_chunks
from distill.runtime.imports import leave_out
from distill.runtime.job import job

with job(snakemake):
    leave_out("torch")
    from distill.models.tokenizers import load_tokenizer

    params = snakemake.params
    take_chunks(
        snakemake.input.chunks,
        load_tokenizer(Path(snakemake.input.model).parent),
        params.spec,
        snakemake.wildcards.split,
        params.first,
        params.rows,
        snakemake.output.part,
    )
