"""Take one raw part of a data set's prompts."""

from distill.contracts.costs import FREE
from distill.contracts.schemas import RAW_SCHEMA
from distill.core.parquet import read_rows, write_rows
from distill.data.prompts import slice_rows
from distill.runtime.job import job

with job(snakemake):
    spec = snakemake.params.spec
    rows = slice_rows(read_rows(snakemake.input.rows), spec, snakemake.params.source)
    write_rows(snakemake.output.part, rows, RAW_SCHEMA, spec=spec, cost=FREE.columns())
