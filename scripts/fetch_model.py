"""Fetch a model and convert it to safetensors."""

from distill.job import job
from distill.sources import fetch_model

with job(snakemake):
    fetch_model(snakemake.params.spec, snakemake.output.manifest)
