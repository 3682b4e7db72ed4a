"""Generate a teacher's answers to one part of the prompts; save the final hidden states too."""

from distill.runtime.model_job import model_job

with model_job(snakemake, threads=snakemake.params.spec["decoding"]["threads"]) as run:
    from distill.teacher.generation import generate_part

    run(
        generate_part,
        prompts=snakemake.input.prompts,
        model=snakemake.input.model,
        text=snakemake.output.part,
        states=snakemake.output.states,
        spec=snakemake.params.spec,
        teacher=snakemake.resources.teacher,
        exact=snakemake.params.exact,
    )
