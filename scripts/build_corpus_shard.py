"""Cut the chunks of a corpus that one student reads."""

from pathlib import Path

from distill.corpus import build_corpus_shard
from distill.job import job
from distill.models import load_tokenizer
from distill.parquet import read_rows

with job(snakemake):
    files = snakemake.input
    build_corpus_shard(
        read_rows(files.corpus),
        read_rows(files.reference),
        load_tokenizer(Path(files.model).parent),
        snakemake.params.spec,
        snakemake.output.shard,
    )
