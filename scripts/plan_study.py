"""Estimate the costs of a study on this machine."""

from distill.runtime.job import job

with job(snakemake):
    from distill.costs.estimate import print_estimate

    print_estimate(
        study=snakemake.params.study,
        figures=snakemake.params.figures,
        cores=snakemake.params.cores,
        device=snakemake.resources.device,
    )
