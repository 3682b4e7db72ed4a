"""Fetch a model and convert it to safetensors."""

from distill.data.fetch import fetch_model
from distill.runtime.job import job

with job(snakemake):
    fetch_model(snakemake.params.spec, snakemake.output.manifest, *snakemake.input.base)
