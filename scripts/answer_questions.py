"""Answer the study's questions from its runs table and laws."""

from pathlib import Path

from distill.answers.questions import answer_questions
from distill.core.files import read_json, write_json
from distill.core.parquet import read_frame
from distill.runtime.job import job

with job(snakemake):
    files = snakemake.input
    answers = answer_questions(
        read_frame(files.runs),
        read_json(files.references),
        read_json(files.laws),
        snakemake.params.spec,
        Path(snakemake.scriptdir).parent / "report/answers",
    )
    write_json(snakemake.output.answers, answers)
