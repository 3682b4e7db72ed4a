"""Compute the teacher's mean loss on each answer of one part of a text."""

from distill.runtime.model_job import model_job

with model_job(snakemake, threads=snakemake.params.spec["scorer"]["threads"]) as run:
    from distill.teacher.answer_loss import score_answers

    run(
        score_answers,
        text=snakemake.input.text,
        states=snakemake.input.states,
        head=snakemake.input.head,
        out=snakemake.output.part,
        spec=snakemake.params.spec,
    )
