"""Let a teacher answer one part of the prompts, or take over ready-made answers."""

from pathlib import Path

from distill.job import job
from distill.models import load_model, load_tokenizer, resolve_precision, use_threads
from distill.parquet import read_rows, write_rows
from distill.schemas import TEXT_SCHEMA
from distill.text import generate_text, longest_sequence, ready_made_text
from distill.tokens import tokenizer_sha256

with job(snakemake):
    spec, prompts = snakemake.params.spec, read_rows(snakemake.input.prompts)
    digest = None
    if "text" in spec:
        rows = ready_made_text(prompts, snakemake.params.teacher)
    else:
        decoding = spec["decoding"]
        use_threads(decoding["threads"])
        folder = Path(snakemake.input.model[0]).parent
        tokenizer = load_tokenizer(folder)
        precision = resolve_precision(decoding["precision"])
        length = longest_sequence(tokenizer, prompts, spec)
        model = load_model(folder, precision=precision, sequence=length)
        rows = generate_text(model, tokenizer, prompts, spec)
        digest = tokenizer_sha256(tokenizer)
    write_rows(snakemake.output.part, rows, TEXT_SCHEMA, spec=spec, tokenizer_sha256=digest)
