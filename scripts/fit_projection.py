"""Fit the principal directions of a teacher's layers on the first training part."""

from pathlib import Path

from distill.job import job
from distill.layers import fit_pca, layer_states, save_projection
from distill.models import check_tokens, load_teacher, use_threads
from distill.parquet import read_rows

with job(snakemake):
    spec, files = snakemake.params.spec, snakemake.input
    use_threads(spec["scorer"]["threads"])
    rows = read_rows(files.text)
    folder = Path(files.model[0]).parent
    check_tokens(files.text, folder)
    length = max(len(row["prompt_ids"]) + len(row["response_ids"]) for row in rows)
    model = load_teacher(folder, spec["scorer"], sequence=length)
    states = layer_states(model, rows, spec["layers"], spec["tokens"])
    save_projection(fit_pca(states, spec["width"]), snakemake.output.projection)
