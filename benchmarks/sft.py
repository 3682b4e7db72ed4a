"""Fine-tuning on the teacher's words, against TRL's `SFTTrainer`."""

import prepared
from alternate import Side, alternate, median, ratios
from rows import Row, middle


def measure() -> list[Row]:
    """Tokens per second of `train()`, prompts included, and peak memory."""
    prepared.make()
    found = alternate(
        {"ours": Side("students:ours", {"method": "sft"}), "trl": Side("students:trl_sft")}
    )
    return [compared("SFT, tokens/s", "TRL SFTTrainer, bf16", found, "cross_entropy", 5.0)]


def compared(
    what: str, against: str, found: dict[str, list[dict[str, float]]], loss: str, target: float
) -> Row:
    """The line of one comparison of training, its work checked to be equal.

    Raises:
        AssertionError: The two did not do the same work.
    """
    mine, theirs = found["ours"], found["trl"]
    for name in ("tokens", "updates"):
        assert median(mine, name) == median(theirs, name), name
    own, other = median(mine, loss), median(theirs, loss)
    gap = own / other - 1
    ratio, spread = middle(ratios(theirs, mine, "seconds"))
    speeds = [median(side, "tokens") / median(side, "seconds") for side in (mine, theirs)]
    peaks = [median(side, "train_peak_mb") for side in (mine, theirs)]
    return Row(
        what=what,
        against=against,
        value=f"{speeds[0]:,.0f} and {speeds[1]:,.0f}",
        ratio=ratio,
        spread=spread,
        target=f"≥ {target:g}×",
        met=ratio >= target and abs(gap) < 0.01,
        remark=f"held-out {loss.replace('_', '-')} {own:.3f} and {other:.3f} nats ({gap:+.1%}); "
        f"peak memory of the process {peaks[0]:,.0f} and {peaks[1]:,.0f} MB",
        numbers=found,
    )
