"""Fit the principal directions of a teacher's layers on the first training part."""

from distill.models.opening import open_scoring
from distill.runtime.job import job
from distill.runtime.out_of_memory import SMALLER_TEACHER, memory_hint
from distill.targets.layers import fit_pca, layer_states, save_projection

with job(snakemake), memory_hint("scoring a text", SMALLER_TEACHER):
    files, spec = snakemake.input, snakemake.params.spec
    rows, model = open_scoring(files.text, files.model[0], spec["scorer"])
    states = layer_states(model, rows, spec["layers"], spec["tokens"])
    save_projection(fit_pca(states, spec["width"]), snakemake.output.projection)
