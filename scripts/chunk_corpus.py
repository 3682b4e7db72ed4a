"""Cut a corpus into chunks of equal length, held-out documents apart."""

from pathlib import Path

from distill.chunking import chunk_corpus
from distill.imports import leave_out
from distill.job import job
from distill.parquet import read_rows

with job(snakemake):
    leave_out("torch")
    from distill.tokenizing import load_tokenizer

    spec, files = snakemake.params.spec, list(snakemake.input.texts)
    texts = {
        split: [row["text"] for row in read_rows(path)]
        for split, path in zip(spec["texts"], files, strict=True)
    }
    tokenizer = load_tokenizer(Path(snakemake.input.model).parent)
    chunk_corpus(texts, tokenizer, spec, dict(snakemake.output.items()))
