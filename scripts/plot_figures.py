"""Draw every figure of the report."""

from distill.figures.job import draw_study
from distill.runtime.job import job

with job(snakemake):
    draw_study(
        runs=snakemake.input.runs,
        references=snakemake.input.references,
        laws=snakemake.input.laws,
        svg=list(snakemake.output.svg),
        png=list(snakemake.output.png),
        csv=list(snakemake.output.csv),
    )
