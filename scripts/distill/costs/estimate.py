"""Estimate what a study will cost, from its config to a page."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from distill.config.checks.checks import parse_study
from distill.costs.architectures import read_models
from distill.costs.calibration import Calibration
from distill.costs.jobs import Forecast
from distill.costs.row_lengths import read_lengths
from distill.costs.show import write_plan
from distill.plan.study import Plan


def plan_costs(study: dict[str, Any], figures: Sequence[str], cores: int, device: int) -> None:
    """Print and write what a study will cost on this machine.

    Args:
        study: The config.
        figures: Names of its figures.
        cores: That Snakemake may use.
        device: Units of the resource `device` that it may use.
    """
    plan = Plan(parse_study(study))
    models = read_models(plan)
    lengths = {name: read_lengths(plan, name, models.template[name]) for name in models.template}
    calibration = Calibration(plan.study.train.threads)
    forecast = Forecast(plan, models, lengths, calibration.machine, figures)
    limits = [cores, os.cpu_count() or 1]
    print(write_plan(forecast, calibration.record(), limits, device, Path(plan.results)))
