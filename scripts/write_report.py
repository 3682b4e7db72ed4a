"""Write the study's report, one self-contained page."""

from pathlib import Path

from distill.core.files import read_json
from distill.core.parquet import read_frame
from distill.report.page import write_report
from distill.runtime.job import job

with job(snakemake):
    files, texts = snakemake.input, Path(snakemake.scriptdir).parent / "report"
    write_report(
        read_frame(files.runs),
        read_json(files.references),
        read_json(files.answers),
        read_json(files.samples) if files.samples else None,
        files.figures,
        texts,
        texts / "report.html.j2",
        snakemake.output.report,
        read_json(files.laws),
    )
