"""Compute a teacher's final hidden states on one part of an existing text."""

from distill.runtime.model_job import model_job

with model_job(snakemake, threads=snakemake.params.spec["threads"]) as run:
    from distill.teacher.scoring import score_part

    run(
        score_part,
        text=snakemake.input.text,
        model=snakemake.input.model,
        out=snakemake.output.part,
        spec=snakemake.params.spec,
        tokens=snakemake.params.tokens,
        tokenizer=snakemake.input.tokenizer[0] if snakemake.input.tokenizer else None,
        exact=snakemake.params.exact,
    )
