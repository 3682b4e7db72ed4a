"""Answer the study's questions from its runs table and laws."""

from pathlib import Path

from distill.answers.job import answer_study
from distill.runtime.job import job

with job(snakemake):
    answer_study(
        runs=snakemake.input.runs,
        references=snakemake.input.references,
        laws=snakemake.input.laws,
        wording=Path(snakemake.scriptdir).parent / "report/answers",
        out=snakemake.output.answers,
        spec=snakemake.params.spec,
    )
