"""Print and write what a study will cost on this machine."""

import os
from pathlib import Path

from distill.runtime.job import job

with job(snakemake):
    from distill.config.checks.checks import parse_study
    from distill.costs.architectures import read_models
    from distill.costs.calibration import Calibration
    from distill.costs.jobs import Forecast
    from distill.costs.row_lengths import read_lengths
    from distill.costs.show import write_plan
    from distill.plan.study import Plan

    params = snakemake.params
    plan = Plan(parse_study(params.study))
    models = read_models(plan)
    lengths = {name: read_lengths(plan, name, models.template[name]) for name in models.template}
    calibration = Calibration(plan.study.train.threads)
    forecast = Forecast(plan, models, lengths, calibration.machine, params.figures)
    cores = [params.cores, os.cpu_count() or 1]
    device, folder = snakemake.resources.device, Path(plan.results)
    print(write_plan(forecast, calibration.record(), cores, device, folder))
