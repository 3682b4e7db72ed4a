"""Fit scaling laws to a study's runs table."""

from distill.core.files import read_json, write_json
from distill.core.parquet import read_frame
from distill.laws.choice import Settings
from distill.laws.fit import fit_laws
from distill.laws.table import law_table
from distill.runtime.job import job

with job(snakemake):
    runs = read_frame(snakemake.input.runs)
    references = read_json(snakemake.input.references)
    settings = Settings(shared=not references.get("own_table"))  # draws and a test set
    write_json(snakemake.output.laws, fit_laws(law_table(runs, references), settings))
