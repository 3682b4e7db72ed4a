"""Write the study's report as one self-contained page."""

from pathlib import Path

from distill.report.job import report_study
from distill.runtime.job import job

with job(snakemake):
    files = snakemake.input
    report_study(
        runs=files.runs,
        references=files.references,
        answers=files.answers,
        laws=files.laws,
        samples=files.samples if files.samples else None,
        figures=list(files.figures),
        texts=Path(snakemake.scriptdir).parent / "report",
        out=snakemake.output.report,
    )
