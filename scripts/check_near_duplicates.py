"""Compare every test prompt with every training prompt of the study."""

from distill.core.files import write_json
from distill.core.parquet import read_rows
from distill.data.near_duplicates import nearest_pairs
from distill.runtime.job import job

with job(snakemake):
    test, train = read_rows(list(snakemake.input.test)), read_rows(list(snakemake.input.train))
    found = nearest_pairs(test, train, snakemake.params.threshold)
    write_json(snakemake.output.report, {"schema": 1, **found})
