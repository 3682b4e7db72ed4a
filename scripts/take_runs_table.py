"""Make a runs table of a table of one's own."""

from distill.core.files import write_json
from distill.runtime.job import job
from distill.table.collect import write_runs
from distill.table.own_table import parse_table_study, runs_of_table

with job(snakemake):
    runs, references = runs_of_table(parse_table_study(snakemake.params.spec))
    write_runs(runs, snakemake.output.runs, snakemake.output.csv)
    write_json(snakemake.output.references, references)
