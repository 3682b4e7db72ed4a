"""Soft targets of one part, from the log-probabilities that came with a server's answers."""

from pathlib import Path

from distill.core.parquet import read_rows, write_rows
from distill.models.tokenizers import load_tokenizer
from distill.runtime.job import job
from distill.targets.format import scheme_of, target_schema
from distill.teacher.served.text import served_targets

with job(snakemake):
    spec, files = snakemake.params.spec, snakemake.input
    vocabulary = len(load_tokenizer(Path(files.model[0]).parent))
    rows = served_targets(read_rows(files.text), read_rows(files.answers), spec, vocabulary)
    schema = target_schema(scheme_of(spec))
    write_rows(snakemake.output.part, rows, schema, spec=spec, vocabulary=vocabulary)
