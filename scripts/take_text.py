"""Take over a data set's own answers, with the tokens of the teacher that scores them, if any."""

from pathlib import Path

from distill.contracts.schemas import TEXT_SCHEMA
from distill.core.checksums import tokenizer_sha256
from distill.core.parquet import read_rows, write_rows
from distill.data.ready_made import ready_made_text
from distill.runtime.imports import leave_out
from distill.runtime.job import job

with job(snakemake):
    leave_out("torch")
    from distill.models.tokenizers import context_of, load_tokenizer

    spec, prompts = snakemake.params.spec, read_rows(snakemake.input.prompts)
    folder = Path(snakemake.input.model[0]).parent if snakemake.input.model else None
    tokenizer, context = (load_tokenizer(folder), context_of(folder)) if folder else (None, None)
    name, formatting = snakemake.params.teacher, spec.get("formatting")
    rows = ready_made_text(prompts, name, tokenizer, formatting, context)
    digest = tokenizer_sha256(tokenizer) if tokenizer else None
    write_rows(snakemake.output.part, rows, TEXT_SCHEMA, spec=spec, tokenizer_sha256=digest)
