"""Save a teacher's final hidden states on one held-out part of its text."""

from pathlib import Path

from distill.job import job
from distill.models import load_model, resolve_precision, use_threads
from distill.parquet import read_rows, write_rows
from distill.scores import SCORE_SCHEMA, score_text

with job(snakemake):
    decoding = snakemake.params.spec["decoding"]
    use_threads(decoding["threads"])
    rows = read_rows(snakemake.input.text)
    length = max(len(row["prompt_ids"]) + len(row["response_ids"]) for row in rows)
    folder = Path(snakemake.input.model[0]).parent
    precision = resolve_precision(decoding["precision"])
    model = load_model(folder, precision=precision, sequence=length)
    scores = score_text(model, rows, decoding)
    write_rows(snakemake.output.part, scores, SCORE_SCHEMA, spec=snakemake.params.spec)
