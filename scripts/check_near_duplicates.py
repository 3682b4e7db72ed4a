"""Compare every test prompt with every training prompt of the study."""

from distill.files import write_json
from distill.job import job
from distill.parquet import read_rows
from distill.prompts import nearest_pairs

with job(snakemake):
    test, train = read_rows(list(snakemake.input.test)), read_rows(list(snakemake.input.train))
    found = nearest_pairs(test, train, snakemake.params.threshold)
    write_json(snakemake.output.report, {"schema": 1, **found})
