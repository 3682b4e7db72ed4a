"""What a smaller cache costs: differences from the reference cache."""

from distill.answers.runs.cache_costs import KL_BOUND, LOSS_BOUND, cache_groups
from distill.core.errors import UserError
from distill.figures.figure import Axis, Figure, Inputs, Layer, Rows
from distill.figures.over_samples import COLUMNS


def numbers(inputs: Inputs) -> Rows:
    """Return every cache's difference from its reference cache, per student and method.

    `kind` is reference or difference (with its 90 % interval, over so many pairs of runs); `mark`
    is the cache.

    Raises:
        UserError: The runs table has no column `cache`.
    """
    if "cache" not in inputs.runs:
        raise UserError(
            f'figure "{FIGURE.title}" needs column cache, which the runs table does not hold'
        )
    rows: Rows = []
    groups = cache_groups(inputs.lines, inputs.references)
    for panel in ("loss_percent", "kl_percent"):
        for group in groups:
            costs = [
                (cost, difference)
                for cost in group.others
                if cost.size and (difference := getattr(cost, panel)) is not None
            ]
            if not costs or not group.size:
                continue
            place = {"panel": panel, "label": group.label}
            rows.append(
                {
                    **place,
                    "kind": "reference",
                    "mark": group.reference.cache,
                    "x": group.size,
                    "y": 0.0,
                }
            )
            for cost, difference in costs:
                rows.append(
                    {
                        **place,
                        "kind": "difference",
                        "mark": cost.line.cache,
                        "x": cost.size,
                        "y": difference.value,
                        "low": difference.low,
                        "high": difference.high,
                        "runs": cost.pairs,
                    }
                )
    return rows


FIGURE = Figure(
    title="What a smaller cache costs",
    section="caches",
    empty="No student and method has comparable runs of several caches.",
    numbers=numbers,
    layers=(
        Layer("difference", "interval"),
        Layer("difference", "points"),
        Layer("reference", "points", key="reference", style={"mfc": "white", "mew": 0.9}),
    ),
    x=Axis("bytes per token"),
    y=Axis(
        {
            "loss_percent": "loss, % off the\nreference cache",
            "kl_percent": "KL, % off the\nreference cache",
        },
        "bounded",
        "none",
        guide="zero",
        bound={"loss_percent": LOSS_BOUND, "kl_percent": KL_BOUND},
    ),
    facets=("panel", None),
    shape="mark",
    dodge=("label",),
    columns=COLUMNS,
)
