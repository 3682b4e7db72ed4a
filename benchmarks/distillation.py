"""Logit distillation from the cache, against TRL's GKD with its teacher at hand."""

from dataclasses import replace

from alternate import median, ratios
from rows import Row, middle
from sft import compared, in_turns


def measure() -> list[Row]:
    """Tokens per second of `train()`, prompts included, and peak memory."""
    found, exact = in_turns("kd", "trl_gkd")
    against = "TRL GKD, lmbda 0, beta 0, live teacher, bf16"
    speed = compared("logit distillation from cache, tokens/s", against, found, exact, "kl", 5.0)
    share, spread = middle(ratios(found["trl"], found["ours"], "train_added_mb"))
    memory = replace(
        speed,
        what="logit distillation from cache, peak memory",
        value=" and ".join(f"{median(found[s], 'train_added_mb'):,.0f}" for s in ("ours", "trl"))
        + " MB",
        ratio=share,
        spread=spread,
        target="≥ 2×",
        met=share >= 2,
        remark="models and training, above what the process held before; ratio: theirs over ours",
        numbers={},
    )
    return [speed, memory]
