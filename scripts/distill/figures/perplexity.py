"""Perplexity against training samples."""

import math

from distill.figures.over_samples import Panel, figure_over_samples
from distill.table.words import words_of

FIGURE = figure_over_samples(
    "Perplexity against training samples",
    Panel("perplexity", "perplexity", teacher="perplexity", of_loss=math.exp),
    section="measured",
    y_label=lambda inputs: words_of(inputs.lines[0].runs).perplexity,
)
