"""Take a server's answers as a teacher's text, tokenised if the config names a tokenizer."""

from distill.runtime.job import job

with job(snakemake, without=("torch",)):
    from distill.teacher.served.text import take_answers

    files = snakemake.input
    take_answers(
        prompts=files.prompts,
        answers=files.answers,
        model=files.model[0] if files.model else None,
        out=snakemake.output.part,
        spec=snakemake.params.spec,
        teacher=snakemake.params.teacher,
    )
