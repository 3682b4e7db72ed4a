"""Fit scaling laws to a study's runs table."""

from distill.files import read_json, write_json
from distill.job import job
from distill.law_choice import Settings
from distill.law_groups import fit_laws
from distill.law_table import law_table
from distill.parquet import read_frame

with job(snakemake):
    runs = read_frame(snakemake.input.runs)
    references = read_json(snakemake.input.references)
    settings = Settings(shared=not references.get("own_table"))  # draws and a test set
    write_json(snakemake.output.laws, fit_laws(law_table(runs, references), settings))
