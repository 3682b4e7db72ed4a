"""Answer the study's questions from its runs table and laws."""

from distill.answers.job import answer_study
from distill.runtime.job import job

with job(snakemake):
    answer_study(
        runs=snakemake.input.runs,
        references=snakemake.input.references,
        laws=snakemake.input.laws,
        out=snakemake.output.answers,
        spec=snakemake.params.spec,
    )
