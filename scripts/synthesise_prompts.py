"""Let the teacher write one raw part of prompts (Magpie)."""

from pathlib import Path

from distill.job import job
from distill.models import load_model, load_tokenizer, resolve_precision, use_threads
from distill.parquet import write_rows
from distill.schemas import RAW_SCHEMA
from distill.text import synthesise_prompts

with job(snakemake):
    spec = snakemake.params.spec
    use_threads(spec["threads"])
    folder = Path(snakemake.input.model).parent
    precision = resolve_precision(spec["precision"])
    model = load_model(folder, precision=precision, sequence=4 * spec["max_tokens"])
    rows, cost = synthesise_prompts(model, load_tokenizer(folder), spec)
    write_rows(snakemake.output.part, rows, RAW_SCHEMA, spec=spec, cost=cost)
