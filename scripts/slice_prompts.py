"""Take one raw part of a data set's prompts."""

from distill.energy import Energy
from distill.job import job
from distill.parquet import read_rows, write_rows
from distill.prompts import slice_rows
from distill.schemas import RAW_SCHEMA

with job(snakemake):
    spec = snakemake.params.spec
    rows = slice_rows(read_rows(snakemake.input.rows), spec, snakemake.params.source)
    cost = {"flops": 0.0, "seconds": 0.0, **Energy().columns()}
    write_rows(snakemake.output.part, rows, RAW_SCHEMA, spec=spec, cost=cost)
