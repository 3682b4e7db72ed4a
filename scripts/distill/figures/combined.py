"""The combined score on fixed anchors against training samples."""

from distill.figures.over_samples import Panel, figure_over_samples

FIGURE = figure_over_samples(
    "Combined score against training samples",
    Panel("combined_normalised", "combined score, fixed anchors"),
    log=False,
)
