"""Loss against all FLOPs behind a run."""

from distill.figures.over_samples import Panel, figure_over_samples

FIGURE = figure_over_samples(
    "Loss against FLOPs, the teacher's share counted",
    Panel("loss", "held-out loss (nats/token)", teacher="loss", of_loss=float),
    section="flops",
    start=False,
    x="total_flops",
    x_label="FLOPs of training, teacher text and soft targets",
)
