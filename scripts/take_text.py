"""Take a data set's answers, tokenised for the teacher that scores them, if any."""

from distill.runtime.job import job

with job(snakemake, without=("torch",)):
    from distill.data.ready_made import take_text

    take_text(
        prompts=snakemake.input.prompts,
        model=snakemake.input.model[0] if snakemake.input.model else None,
        out=snakemake.output.part,
        spec=snakemake.params.spec,
        teacher=snakemake.params.teacher,
    )
