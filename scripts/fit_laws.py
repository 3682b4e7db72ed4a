"""Fit scaling laws to a study's runs table."""

from distill.core.files import read_json, write_json
from distill.core.parquet import read_frame
from distill.laws.choice import Settings
from distill.laws.fit import fit_laws
from distill.laws.runs import trained_rows
from distill.runtime.job import job

with job(snakemake):
    runs = read_frame(snakemake.input.runs)
    references = read_json(snakemake.input.references)
    settings = Settings(shared=not references.get("own_table"))  # they share draws and a test set
    laws = fit_laws(trained_rows(runs, references), settings, snakemake.params.corpus_methods)
    write_json(snakemake.output.laws, laws)
