"""Pass rates on verifiable instructions against training samples."""

from distill.figures.over_samples import Panel, figure_over_samples

FIGURE = figure_over_samples(
    "Pass rate against training samples",
    Panel("pass_rate", "pass rate, fixed set", "pass_rate", "fixed"),
    Panel("pass_rate_large", "pass rate, larger set", "pass_rate_large", "large"),
    log=False,
)
