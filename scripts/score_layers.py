"""Save projected hidden states of chosen layers of a teacher on one part of a text."""

from pathlib import Path

from distill.job import job
from distill.layers import LAYERS_SCHEMA, load_projection, score_layers
from distill.models import check_tokens, load_teacher, use_threads
from distill.parquet import read_rows, write_rows

with job(snakemake):
    spec, files = snakemake.params.spec, snakemake.input
    use_threads(spec["scorer"]["threads"])
    rows = read_rows(files.text)
    folder = Path(files.model[0]).parent
    check_tokens(files.text, folder)
    length = max(len(row["prompt_ids"]) + len(row["response_ids"]) for row in rows)
    model = load_teacher(folder, spec["scorer"], sequence=length)
    projection = load_projection(files.projection[0]) if files.projection else None
    states = score_layers(model, rows, spec, projection)
    write_rows(snakemake.output.part, states, LAYERS_SCHEMA, spec=spec)
