"""Fit the principal directions of a teacher's layers to the first training part."""

from distill.runtime.model_job import model_job

with model_job(snakemake, threads=snakemake.params.spec["scorer"]["threads"]) as run:
    from distill.targets.layers import fit_projection

    run(
        fit_projection,
        text=snakemake.input.text,
        model=snakemake.input.model[0],
        out=snakemake.output.projection,
        spec=snakemake.params.spec,
        tokenizer=snakemake.input.tokenizer[0] if snakemake.input.tokenizer else None,
    )
