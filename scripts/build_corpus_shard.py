"""Cut the chunks of a corpus that one student reads."""

from pathlib import Path

from distill.core.parquet import read_rows
from distill.data.corpus_shards import build_corpus_shard
from distill.models.tokenizers import load_tokenizer
from distill.runtime.job import job

with job(snakemake):
    files = snakemake.input
    build_corpus_shard(
        read_rows(files.corpus),
        read_rows(files.reference),
        load_tokenizer(Path(files.model).parent),
        snakemake.params.spec,
        snakemake.output.shard,
    )
