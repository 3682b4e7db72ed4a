"""Fine-tuning on the teacher's words, against TRL's `SFTTrainer`."""

import prepared
from alternate import Side, alternate, median, ratios
from rows import Row, middle

Found = dict[str, list[dict[str, float]]]
"""Repetitions of each side."""


def in_turns(method: str, theirs: str) -> tuple[Found, Found]:
    """Both sides in bf16, timed in turns; and each once in fp32, where rounding hides nothing."""
    prepared.make()

    def sides(precision: str) -> dict[str, Side]:
        return {
            "ours": Side("students:ours", {"method": method, "precision": precision}),
            "trl": Side(f"students:{theirs}", {"precision": precision}),
        }

    return alternate(sides("bf16")), alternate(sides("fp32"), repetitions=1, warm_up=0)


def measure() -> list[Row]:
    """Tokens per second of `train()`, prompts included, and peak memory."""
    found, exact = in_turns("sft", "trl_sft")
    return [compared("SFT, tokens/s", "TRL SFTTrainer, bf16", found, exact, "cross_entropy", 5.0)]


def compared(what: str, against: str, found: Found, exact: Found, loss: str, target: float) -> Row:
    """The line of one comparison of training, its work checked to be equal.

    Raises:
        AssertionError: The two did not do the same work.
    """
    mine, theirs = found["ours"], found["trl"]
    for name in ("tokens", "updates"):
        assert median(mine, name) == median(theirs, name), name
    losses = {
        precision: [median(side[name], loss) for name in ("ours", "trl")]
        for precision, side in (("fp32", exact), ("bf16", found))
    }
    gaps = {precision: own / other - 1 for precision, (own, other) in losses.items()}
    assert abs(gaps["fp32"]) < 0.01, f"the same training ends in different losses: {losses}"
    ratio, spread = middle(ratios(theirs, mine, "seconds"))
    speeds = [median(side, "tokens") / median(side, "seconds") for side in (mine, theirs)]
    peaks = [median(side, "train_peak_mb") for side in (mine, theirs)]
    equal = "; ".join(
        f"in {precision} {own:.4f} and {other:.4f} nats ({gaps[precision]:+.2%})"
        for precision, (own, other) in losses.items()
    )
    return Row(
        what=what,
        against=against,
        value=f"{speeds[0]:,.0f} and {speeds[1]:,.0f}",
        ratio=ratio,
        spread=spread,
        target=f"≥ {target:g}×",
        met=ratio >= target and abs(gaps["bf16"]) < 0.01,
        remark=f"held-out {loss.replace('_', '-')} after the same training {equal}; "
        f"peak memory of the process {peaks[0]:,.0f} and {peaks[1]:,.0f} MB",
        numbers=found | {f"{name} in fp32": each for name, each in exact.items()},
    )
