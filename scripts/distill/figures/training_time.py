"""Training time against training samples."""

from distill.figures.over_samples import Panel, figure_over_samples

FIGURE = figure_over_samples(
    "Training time against training samples",
    Panel("train_seconds", "training time (s)"),
    start=False,
    guide=True,
)
