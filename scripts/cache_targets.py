"""Compute the soft targets of one part of a text from its teachers' final hidden states."""

from distill.runtime.model_job import model_job

with model_job(snakemake, threads=snakemake.params.spec["scorers"][0]["threads"]) as run:
    from distill.targets.caching import cache_part

    run(
        cache_part,
        states=list(snakemake.input.states),
        heads=list(snakemake.input.heads),
        text=list(snakemake.input.text),
        out=snakemake.output.part,
        spec=snakemake.params.spec,
    )
