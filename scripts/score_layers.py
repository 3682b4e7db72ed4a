"""Save projected hidden states of chosen layers of a teacher on one part of a text."""

from distill.core.parquet import write_rows
from distill.models.opening import open_scoring
from distill.runtime.job import job
from distill.runtime.out_of_memory import SMALLER_TEACHER, memory_hint
from distill.targets.layers import LAYERS_SCHEMA, load_projection, score_layers

with job(snakemake), memory_hint("scoring a text", SMALLER_TEACHER):
    files, spec = snakemake.input, snakemake.params.spec
    rows, model = open_scoring(files.text, files.model[0], spec["scorer"])
    projection = load_projection(files.projection[0]) if files.projection else None
    states = score_layers(model, rows, spec, projection)
    write_rows(snakemake.output.part, states, LAYERS_SCHEMA, spec=spec)
