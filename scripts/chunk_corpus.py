"""Cut a corpus into chunks of equal length, held-out documents apart."""

from pathlib import Path

from distill.core.parquet import read_rows
from distill.data.corpus_chunks import chunk_corpus
from distill.runtime.imports import leave_out
from distill.runtime.job import job

with job(snakemake):
    leave_out("torch")
    from distill.models.tokenizers import load_tokenizer

    spec, files = snakemake.params.spec, list(snakemake.input.texts)
    texts = {
        split: [row["text"] for row in read_rows(path)]
        for split, path in zip(spec["texts"], files, strict=True)
    }
    tokenizer = load_tokenizer(Path(snakemake.input.model).parent)
    chunk_corpus(texts, tokenizer, spec, dict(snakemake.output.items()))
