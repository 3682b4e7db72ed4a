"""Calibration against training samples."""

from distill.figures.over_samples import Panel, figure_over_samples

FIGURE = figure_over_samples(
    "Calibration against training samples",
    Panel("ece", "expected calibration error", teacher="ece"),
    log=False,
    start=False,
)
