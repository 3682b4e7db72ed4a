"""Gap to the teacher against training samples."""

from distill.figures.over_samples import Panel, figure_over_samples

FIGURE = figure_over_samples(
    "Gap to the teacher against training samples",
    Panel("kl_teacher", "KL from teacher (nats/token)"),
)
