"""A study's estimated cost on this machine: the rule `plan` and the command `distill plan`."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from distill.config.checks.study import parse_study
from distill.costs.architectures import read_models
from distill.costs.calibration import Calibration
from distill.costs.jobs import Forecast
from distill.costs.row_lengths import read_lengths
from distill.costs.show import write_plan
from distill.plan.study import Plan


def estimate(plan: Plan, figures: Sequence[str], cores: int, device: int) -> str:
    """Time this machine for some seconds, write `plan.csv` and `plan.json`, and return the text.

    Args:
        plan: The study's plan; its models are in place.
        figures: Names of the study's figures.
        cores: Of the wall time, which is also given for all of this machine's.
        device: The limit of the resource `device`.

    Raises:
        UserError: A model is missing, or its FLOPs are not counted.
    """
    models = read_models(plan)
    lengths = {name: read_lengths(plan, name, models.template[name]) for name in models.template}
    calibration = Calibration(plan.study.train.threads)
    forecast = Forecast(plan, models, lengths, calibration.machine, figures)
    both = [cores, os.cpu_count() or 1]
    return write_plan(forecast, calibration.record(), both, device, Path(plan.results))


def print_estimate(study: dict[str, Any], figures: Sequence[str], cores: int, device: int) -> None:
    """Print what a study will cost on this machine; see `estimate`.

    Args:
        study: The config.
        figures, cores, device: As of `estimate`.
    """
    print(estimate(Plan(parse_study(study)), figures, cores, device))
