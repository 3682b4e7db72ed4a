"""Convert your own table to a runs table."""

from distill.runtime.job import job
from distill.table.job import take_runs_table

with job(snakemake):
    take_runs_table(
        spec=snakemake.params.spec,
        runs=snakemake.output.runs,
        csv=snakemake.output.csv,
        references=snakemake.output.references,
    )
