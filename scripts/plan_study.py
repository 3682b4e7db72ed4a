"""Print and write what a study will cost on this machine."""

from distill.runtime.job import job

with job(snakemake):
    from distill.config.checks.study import parse_study
    from distill.costs.estimate import estimate
    from distill.plan.study import Plan

    params = snakemake.params
    plan = Plan(parse_study(params.study))
    print(estimate(plan, params.figures, params.cores, snakemake.resources.device))
