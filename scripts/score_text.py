"""Save a teacher's final hidden states on one part of a text that it did not write just now."""

from pathlib import Path

from distill.job import job
from distill.models import check_tokens, load_teacher, use_threads
from distill.parquet import read_rows, write_rows
from distill.states import STATES_SCHEMA, score_text

with job(snakemake):
    spec = snakemake.params.spec
    use_threads(spec["threads"])
    rows = read_rows(snakemake.input.text)
    folder = Path(snakemake.input.model).parent
    check_tokens(snakemake.input.text, folder)
    length = max(len(row["prompt_ids"]) + len(row["response_ids"]) for row in rows)
    model = load_teacher(folder, spec, sequence=length)
    states = score_text(model, rows, snakemake.params.tokens)
    write_rows(snakemake.output.part, states, STATES_SCHEMA, spec=spec)
