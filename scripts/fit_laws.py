"""Fit scaling laws to a study's runs table."""

from distill.laws.job import fit_study
from distill.runtime.job import job

with job(snakemake):
    fit_study(
        runs=snakemake.input.runs,
        references=snakemake.input.references,
        out=snakemake.output.laws,
        corpus_methods=snakemake.params.corpus_methods,
    )
