"""Fetch a data set and keep its named fields."""

from distill.job import job
from distill.sources import fetch_data

with job(snakemake):
    fetch_data(snakemake.params.spec, snakemake.output.rows)
