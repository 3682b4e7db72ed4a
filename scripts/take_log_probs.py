"""Take the soft targets of one part from a server's log-probabilities."""

from distill.runtime.job import job
from distill.teacher.served.log_probs import take_log_probs

with job(snakemake):
    take_log_probs(
        text=snakemake.input.text,
        answers=snakemake.input.answers,
        model=snakemake.input.model[0],
        out=snakemake.output.part,
        spec=snakemake.params.spec,
    )
