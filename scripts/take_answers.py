"""Take a server's answers as a teacher's text, with its tokenizer's tokens, if that is known."""

from pathlib import Path

from distill.contracts.schemas import TEXT_SCHEMA
from distill.core.checksums import tokenizer_sha256
from distill.core.parquet import read_rows, write_rows
from distill.models.tokenizers import load_tokenizer
from distill.runtime.job import job
from distill.teacher.served.text import served_text

with job(snakemake):
    spec, files = snakemake.params.spec, snakemake.input
    tokenizer = load_tokenizer(Path(files.model[0]).parent) if files.model else None
    prompts, answers = read_rows(files.prompts), read_rows(files.answers)
    rows = served_text(prompts, answers, spec, snakemake.params.teacher, tokenizer)
    digest = tokenizer_sha256(tokenizer) if tokenizer else None
    write_rows(snakemake.output.part, rows, TEXT_SCHEMA, spec=spec, tokenizer_sha256=digest)
