"""Cut a corpus into chunks of equal length, held-out documents apart."""

from pathlib import Path

from distill.chunking import chunk_corpus
from distill.job import job
from distill.parquet import read_rows
from distill.tokenizing import load_tokenizer

with job(snakemake):
    spec, files = snakemake.params.spec, list(snakemake.input.texts)
    texts = {
        split: [row["text"] for row in read_rows(path)]
        for split, path in zip(spec["texts"], files, strict=True)
    }
    tokenizer = load_tokenizer(Path(snakemake.input.model).parent)
    chunk_corpus(texts, tokenizer, spec, dict(snakemake.output.items()))
