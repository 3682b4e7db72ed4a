"""Request a server's answers to one part of the prompts."""

from distill.runtime.job import job
from distill.teacher.served.client import ask_part

with job(snakemake):
    ask_part(
        prompts=snakemake.input.prompts,
        server=snakemake.resources.server,
        out=snakemake.output.part,
        spec=snakemake.params.spec,
        code=snakemake.params.code,
    )
