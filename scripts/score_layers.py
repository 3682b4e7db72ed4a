"""Save projected hidden states of chosen layers of a teacher on one part of a text."""

from distill.runtime.model_job import model_job

with model_job(snakemake, threads=snakemake.params.spec["scorer"]["threads"]) as run:
    from distill.targets.layers import layers_part

    files = snakemake.input
    run(
        layers_part,
        text=files.text,
        model=files.model[0],
        projection=files.projection[0] if files.projection else None,
        out=snakemake.output.part,
        spec=snakemake.params.spec,
        tokenizer=files.tokenizer[0] if files.tokenizer else None,
    )
