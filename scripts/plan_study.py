"""Print and write what a study will cost on this machine."""

from distill.runtime.job import job

with job(snakemake):
    from distill.costs.estimate import plan_costs

    plan_costs(
        study=snakemake.params.study,
        figures=snakemake.params.figures,
        cores=snakemake.params.cores,
        device=snakemake.resources.device,
    )
