"""Answers of `distill.ask.subject` and `distill.ask.budget` in words."""

from collections.abc import Mapping
from typing import Any

from distill.stats.intervals import number

Answer = Mapping[str, Any]
_UNITS = {"flops": "FLOPs", "hours": "hours", "money": "of money"}


def duration(seconds: float | None) -> str:
    """Seconds, minutes, hours or days, three digits; an en dash where unknown."""
    if seconds is None:
        return "–"
    for unit, length in (("days", 86400.0), ("h", 3600.0), ("min", 60.0)):
        if seconds >= 2 * length:
            return f"{number(seconds / length)} {unit}"
    return f"{number(seconds)} s"


def data_size(size: float | None) -> str:
    """Bytes with a decimal unit, three digits; an en dash where unknown."""
    if size is None:
        return "–"
    for unit, length in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size >= length:
            return f"{number(size / length)} {unit}"
    return f"{number(size)} B"


def _interval(low: float | None, high: float | None, digits: int = 4) -> str:
    ends = [
        "−∞" if low is None else number(low, digits),
        "∞" if high is None else number(high, digits),
    ]
    return " to ".join(ends)


def _whole(value: float | None) -> str:
    return "–" if value is None else number(value, 3) if value >= 1e7 else f"{value:,.0f}"


def amount(samples: float | None, tokens: float) -> str:
    """So many samples and tokens."""
    text = f"{_whole(tokens)} tokens"
    return text if samples is None else f"{_whole(samples)} samples ({text})"


def who(answer: Answer) -> str:
    """Student, group and epochs."""
    epochs = answer["epochs"]
    repeats = f"{epochs:g} epoch{'' if epochs == 1 else 's'}"
    size = ""
    if answer["student"] is not None and answer["params"]:
        size = f" ({_whole(answer['params'])} parameters)"
    return f"{answer['label']}{size}, {answer['line']}, {repeats}"


def loss_words(answer: Answer) -> list[str]:
    """Expected loss, intervals and perplexity."""
    loss, perplexity = answer["loss"], answer["perplexity"]
    spread = f"90 % interval {_interval(loss['low'], loss['high'])} for the mean over runs"
    lines = [
        f"loss {number(loss['value'], 4)} nats per token ({spread}, "
        f"{_interval(loss['run_low'], loss['run_high'])} for a new run)",
        f"perplexity {number(perplexity['value'])} "
        f"({_interval(perplexity['low'], perplexity['high'], 3)}; new run "
        f"{_interval(perplexity['run_low'], perplexity['run_high'], 3)})",
    ]
    measured = answer.get("measured")
    if measured:
        runs = f"{measured['runs']} run{'' if measured['runs'] == 1 else 's'}"
        lines.append(f"measured there: {number(measured['loss'], 4)} nats ({runs})")
    return lines


def cost_words(answer: Answer) -> list[str]:
    """Training, the teacher's work, soft targets, disk and money."""
    cost = answer["cost"]
    if cost is None:
        return ["costs unknown: one student alone is no line over size"]
    lines = [f"training {duration(cost['train_seconds'])}, {number(cost['train_flops'])} FLOPs"]
    if cost["teacher_tokens"] and answer["teacher"]:
        lines.append(
            f"teacher writes {_whole(cost['teacher_tokens'])} tokens: "
            f"{duration(cost['teacher_seconds'])}, {number(cost['teacher_flops'])} FLOPs"
        )
    if cost["target_flops"] or cost["cache_bytes"]:
        lines.append(
            f"soft targets {duration(cost['target_seconds'])}, "
            f"{number(cost['target_flops'])} FLOPs, {data_size(cost['cache_bytes'])}"
        )
    if cost["disk_bytes"] is not None:
        lines.append(f"disk {data_size(cost['disk_bytes'])} (student and soft targets)")
    if cost["money"] is not None:
        lines.append(f"money {number(cost['money'])} at the prices given")
    return lines


def basis_words(answer: Answer) -> list[str]:
    """By which law, how it was judged, how far it reaches, where costs come from."""
    judged = "not judged on unseen runs"
    if answer["law_error"] is not None:
        factor = answer["law_compute_factor"]
        judged = (
            f"its error on the dearest runs, unseen, was {100 * answer['law_error']:.2g} % at "
            f"{number(factor)} times the compute"
        )
    lines = [
        f"law {answer['law']} over {answer['law_over']}, {answer['law_runs']} runs; {judged}",
    ]
    factor = answer.get("extrapolation")
    if factor is not None:
        reach = "inside what was fitted" if factor == 1 else f"a factor of {factor:.3g} outside it"
        lines.append(f"{reach} ({_ranges(answer['range'])})")
        lines.append(
            "costs are proportional to tokens, at the rates of this study's runs on their machine"
            + ("" if answer["student"] else ", log-linear in size between students")
        )
    return lines


def _ranges(ranges: Mapping[str, Any]) -> str:
    return ", ".join(
        f"{name} {_whole(low)} to {_whole(high)}" for name, (low, high) in ranges.items()
    )


def _block(title: str, lines: list[str], warnings: list[str]) -> str:
    marked = [f"  {line}" for line in lines] + [f"  warning: {text}" for text in warnings]
    return "\n".join([title, *marked])


def loss_text(answer: Answer) -> str:
    """The whole answer to `loss`."""
    title = f"{who(answer)}, {amount(answer['samples'], answer['tokens'])}:"
    lines = [*loss_words(answer), *cost_words(answer), *basis_words(answer)]
    return _block(title, lines, answer["warnings"])


def samples_text(answer: Answer) -> str:
    """The whole answer to `samples`."""
    target = f"{number(answer['target'], 4)} nats per token"
    title = f"{who(answer)}, a loss of {target}:"
    if not answer["reached"]:
        value, low, high = answer["floor"]
        floor = f"{number(value, 4)} (90 % interval {_interval(low, high)})"
        if not answer["below_floor"]:
            what = "not reached within a million times the data measured"
        elif answer["floor_excludes"]:
            what = f"not reached: below the fitted floor, {floor}"
        else:
            what = (
                f"not reached by the curve, whose fitted floor is {floor}; the interval does not "
                "exclude that the floor is lower"
            )
        near = f"as far as the law is followed it comes down to {number(answer['nearest'], 4)}"
        return _block(title, [what, near, *basis_words(answer)], answer["warnings"])
    unit = "samples" if answer["samples"] is not None else "tokens"
    ends = [answer[f"{unit}_low"], answer[f"{unit}_high"]]
    spans = " to ".join(
        text if end is None else _whole(end)
        for end, text in zip(ends, ("no lower end", "no upper end"), strict=True)
    )
    needed = f"needs {amount(answer['samples'], answer['tokens'])}; 90 % interval {spans} {unit}"
    sure = answer[f"{unit}_sure"]
    one = (
        f"a single new run reaches it with 95 % at {_whole(sure)} {unit}"
        if sure is not None
        else "no number of samples makes a single new run reach it with 95 %"
    )
    lines = [needed, one, *cost_words(answer), *basis_words(answer)]
    return _block(title, lines, answer["warnings"])


def best_text(answer: Answer, runners_up: int = 5) -> str:
    """The whole answer to `best`."""
    unit = _UNITS[answer["unit"]]
    counted = (
        "training alone"
        if answer["scope"] == "training" and answer["unit"] != "money"
        else "training, the teacher's text and soft targets"
    )
    blocks = [f"Budget {number(float(answer['budget']))} {unit} for {counted}."]
    first, *rest = answer["ranked"]
    amounts = amount(first["samples"], first["tokens"])
    title = f"Best: {who(first)}, {amounts}, {number(first['spent'])} {unit}:"
    lines = [*loss_words(first), *cost_words(first), *basis_words(first)]
    blocks.append(_block(title, lines, first["warnings"]))
    if rest:
        lines = []
        for other in rest[:runners_up]:
            loss = other["loss"]
            told = "worse" if other["apart"] else "cannot be told from the best"
            lines.append(
                f"{who(other)}, {amount(other['samples'], other['tokens'])}: loss "
                f"{number(loss['value'], 4)} ({_interval(loss['low'], loss['high'])}), {told}"
                + "".join(f"; warning: {text}" for text in other["warnings"])
            )
        blocks.append(
            _block("Runners-up (told apart where the 90 % intervals do not overlap):", lines, [])
        )
    if answer["left_out"]:
        blocks.append(_block("Left out:", answer["left_out"], []))
    return "\n".join(blocks)


def laws_text(document: Mapping[str, Any], best_only: bool = False) -> str:
    """Which laws there are, how well they were judged, and what was refused."""
    blocks = []
    for law in document["laws"]:
        if best_only and not law["best"]:
            continue
        known = [
            f"{name} {number(c['value'])} ({_interval(c['low'], c['high'], 3)})"
            if c["identifiable"]
            else f"{name} not identifiable"
            for name, c in law["coefficients"].items()
        ]
        lines = [law["formula"], "; ".join(known), _judged(law["holdout"])]
        lines.append(f"fitted to {law['points']} runs ({_ranges(law['range'])})")
        mark = ", best of its group" if law["best"] else ""
        title = f"{law['name']} of the {law['target']}{mark}: {_selected(law['selected'])}"
        blocks.append(_block(title, lines, law["warnings"]))
    if not blocks:
        blocks.append("No law was fitted.")
    refused: dict[str, int] = {}
    for entry in document["refused"]:
        line = f"{entry['name']}: {entry['reason']}"
        refused[line] = refused.get(line, 0) + 1
    if refused:
        lines = [
            f"{line}{'' if times == 1 else f' ({times} groups)'}" for line, times in refused.items()
        ]
        blocks.append(_block("Refused:", lines, []))
    return "\n".join(blocks)


def _selected(selected: Mapping[str, Any]) -> str:
    parts = [f"{key} {value}" for key, value in selected.items() if value not in (None, "", "none")]
    return ", ".join(parts) or "all runs"


def _judged(holdout: Mapping[str, Any] | None) -> str:
    if holdout is None:
        return "not judged on unseen runs"
    skill = holdout["skill_vs_loglinear"]
    text = (
        f"judged on the {holdout['runs']} dearest runs ({number(holdout['compute_factor'])} times "
        f"the compute): mean error {100 * holdout['mean_relative_error']:.2g} %, "
        f"{100 * holdout['interval_coverage']:.0f} % of them inside the 90 % interval"
    )
    return (
        text if skill is None else f"{text}, skill against the log-linear line {number(skill, 2)}"
    )
