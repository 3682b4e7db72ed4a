"""Fetch a data set and keep its configured fields."""

from distill.data.fetch import fetch_data
from distill.runtime.job import job

with job(snakemake):
    fetch_data(snakemake.params.spec, snakemake.output.rows)
