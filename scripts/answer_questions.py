"""Answer the study's questions from its runs table and laws."""

from distill.answers import answer_questions
from distill.files import read_json, write_json
from distill.job import job
from distill.parquet import read_frame

with job(snakemake):
    files = snakemake.input
    answers = answer_questions(
        read_frame(files.runs),
        read_json(files.references),
        read_json(files.laws),
        snakemake.params.spec,
    )
    write_json(snakemake.output.answers, answers)
