"""Drop near-duplicates from one raw part and keep exactly its number of prompts."""

from distill.contracts.schemas import PROMPT_SCHEMA
from distill.core.parquet import read_metadata, read_rows, write_rows
from distill.data.prompts import filter_part
from distill.runtime.job import job

with job(snakemake):
    spec, raw = snakemake.params.spec, snakemake.input.raw
    cost = read_metadata(raw, "cost")
    earlier = read_rows(list(snakemake.input.earlier))
    kept = filter_part(read_rows(raw), earlier, spec, cost)
    write_rows(snakemake.output.part, kept, PROMPT_SCHEMA, spec=spec)
