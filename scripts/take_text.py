"""Take over a data set's own answers, with the tokens of the teacher that scores them, if any."""

from pathlib import Path

from distill.imports import leave_out
from distill.job import job
from distill.parquet import read_rows, write_rows
from distill.ready_made import ready_made_text
from distill.schemas import TEXT_SCHEMA
from distill.tokens import tokenizer_sha256

with job(snakemake):
    leave_out("torch")
    from distill.tokenizing import context_of, load_tokenizer

    spec, prompts = snakemake.params.spec, read_rows(snakemake.input.prompts)
    folder = Path(snakemake.input.model[0]).parent if snakemake.input.model else None
    tokenizer, context = (load_tokenizer(folder), context_of(folder)) if folder else (None, None)
    name, formatting = snakemake.params.teacher, spec.get("formatting")
    rows = ready_made_text(prompts, name, tokenizer, formatting, context)
    digest = tokenizer_sha256(tokenizer) if tokenizer else None
    write_rows(snakemake.output.part, rows, TEXT_SCHEMA, spec=spec, tokenizer_sha256=digest)
