"""The distillation loss alone, forward and backward, on 1,024 tokens of 49,152 words in bf16."""

import importlib.util
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch

from alternate import Side, alternate, median, ratios
from distill.runtime.memory import memory_now, peak_memory
from rows import Row, middle

TOKENS, WORDS, WIDTH, KEPT, THREADS = 1024, 49_152, 576, 64, 2


def _logits() -> tuple[torch.Tensor, torch.Tensor]:
    """Logits of a student and a teacher that partly agree, bf16 [tokens, words]."""
    torch.set_num_threads(THREADS)
    made = torch.Generator().manual_seed(0)
    common, one, two = (torch.randn(TOKENS, WORDS, generator=made) for _ in range(3))
    return (2 * common + one).bfloat16(), (2 * common + two).bfloat16()


def _ended(began: float, before: int) -> dict[str, float]:
    """Seconds, and the memory that was added meanwhile."""
    seconds = time.perf_counter() - began
    return {"seconds": seconds, "added_mb": (peak_memory("cpu") - before) / 2**20}


def _timed(
    loss: Callable[[torch.Tensor], torch.Tensor], student: torch.Tensor
) -> Callable[[], Mapping[str, float]]:
    def once() -> Mapping[str, float]:
        student.grad = None
        student.requires_grad_(True)
        before, began = memory_now("cpu"), time.perf_counter()
        value = loss(student)
        value.backward()
        found = _ended(began, before)
        assert student.grad is not None
        norm = float(torch.linalg.vector_norm(student.grad, dtype=torch.float32))
        student.grad = None
        return found | {"gradient_norm": norm}

    return once


def ours(divergence: str) -> Callable[[], Mapping[str, float]]:
    """Dense, from the teacher's logits as the peers have them."""
    from distill.training.losses import FUNCTIONS, dense_divergence

    student, teacher = _logits()
    weights = torch.full((TOKENS,), 1 / TOKENS)
    measure: Any = FUNCTIONS[divergence]
    measure = partial(measure, beta=0.5) if divergence == "jsd" else measure

    def answer(rows: slice) -> torch.Tensor:
        return teacher[rows]

    return _timed(
        lambda own: dense_divergence(own, answer, measure, weights, teacher_temperature=1.0)[0],
        student,
    )


def cached() -> Callable[[], Mapping[str, float]]:
    """Forward KL from 64 kept words a token, as from the cache."""
    from distill.training.losses import sparse_cross_entropy

    student, teacher = _logits()
    p, ids = teacher.float().softmax(-1).topk(KEPT)
    weights = p / p.sum(-1, keepdim=True) / TOKENS
    return _timed(lambda own: sparse_cross_entropy(own, ids, weights)[0], student)


def trl(beta: float) -> Callable[[], Mapping[str, float]]:
    """TRL's generalised JSD; forward KL at beta 0."""
    from trl.experimental.gkd import GKDTrainer

    student, teacher = _logits()
    loss = GKDTrainer.generalized_jsd_loss
    return _timed(lambda own: loss(own, teacher, beta=beta), student)


def torchtune() -> Callable[[], Mapping[str, float]]:
    """torchtune's chunked forward KL, whose value lacks the teacher's entropy."""
    package = importlib.util.find_spec("torchtune")  # its __init__ wants an old torchao
    assert package is not None
    assert package.submodule_search_locations
    path = Path(package.submodule_search_locations[0]) / "modules/loss/kd_losses.py"
    spec = importlib.util.spec_from_file_location("kd_losses", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    student, teacher = _logits()
    chunked = module.ForwardKLWithChunkedOutputLoss(num_output_chunks=8)
    labels = torch.zeros(1, TOKENS, dtype=torch.long)

    def loss(own: torch.Tensor) -> torch.Tensor:
        cut = [one.chunk(8, dim=1) for one in (own.unsqueeze(0), teacher.unsqueeze(0))]
        value: torch.Tensor = chunked(*cut, labels)
        return value

    return _timed(loss, student)


def _states() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    torch.set_num_threads(THREADS)
    made = torch.Generator().manual_seed(0)
    states = torch.randn(2, TOKENS, WIDTH, generator=made).bfloat16()
    heads = (torch.randn(2, WORDS, WIDTH, generator=made) / WIDTH**0.5 * 2).bfloat16()
    return states[0], states[1], heads[0], heads[1]


def _timed_head(
    loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
    own: torch.Tensor,
    head: torch.Tensor,
) -> Callable[[], Mapping[str, float]]:
    def once() -> Mapping[str, float]:
        own.grad = head.grad = None
        own.requires_grad_(True)
        head.requires_grad_(True)
        before, began = memory_now("cpu"), time.perf_counter()
        loss(own, head).backward()
        found = _ended(began, before)
        assert own.grad is not None
        return found | {"gradient_norm": float(own.grad.float().norm())}

    return once


def ours_with_head() -> Callable[[], Mapping[str, float]]:
    """JSD from hidden states, both output heads included."""
    from distill.training.losses import FUNCTIONS, dense_divergence

    own, theirs, head, their_head = _states()
    measure: Any = partial(FUNCTIONS["jsd"], beta=0.5)
    weights = torch.full((TOKENS,), 1 / TOKENS)

    def answer(rows: slice) -> torch.Tensor:
        return theirs[rows] @ their_head.T

    def loss(states: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        logits = states @ weight.T
        return dense_divergence(logits, answer, measure, weights, teacher_temperature=1.0)[0]

    return _timed_head(loss, own, head)


def liger() -> Callable[[], Mapping[str, float]]:
    """Liger's JSD fused with both output heads; uncompiled, as its kernels are for GPUs."""
    from liger_kernel.chunked_loss import LigerFusedLinearJSDLoss

    own, theirs, head, their_head = _states()
    fused = LigerFusedLinearJSDLoss(
        weight_hard_loss=0.0, weight_soft_loss=1.0, beta=0.5, compiled=False, chunk_size=128
    )
    labels = torch.zeros(TOKENS, dtype=torch.long)
    return _timed_head(
        lambda states, weight: fused(states, weight, theirs, their_head, labels), own, head
    )


def _row(what: str, against: str, found: dict[str, list[dict[str, float]]]) -> Row:
    """The line of one comparison, its gradient checked to be the same.

    Raises:
        AssertionError: It is not.
    """
    mine, theirs = found["ours"], found["theirs"]
    gap = median(mine, "gradient_norm") / median(theirs, "gradient_norm") - 1
    assert abs(gap) < 0.01, f"gradients differ: {gap:+.1%}"
    ratio, spread = middle(ratios(theirs, mine, "seconds"))
    memory = [median(side, "added_mb") for side in (mine, theirs)]
    seconds = [1e3 * median(side, "seconds") for side in (mine, theirs)]
    met, target = spread[0] > 1, "faster"
    if "TRL" in against:
        met, target = met and memory[0] <= memory[1] / 10, "faster, ≤ 1/10 of the memory"
    return Row(
        what=what,
        against=against,
        value=f"{seconds[0]:,.0f} and {seconds[1]:,.0f} ms, {memory[0]:,.0f} and "
        f"{memory[1]:,.0f} MB",
        ratio=ratio,
        spread=spread,
        target=target,
        met=met,
        remark=f"norms of the gradients differ by {abs(gap):.2%}",
        numbers=found,
    )


def measure() -> list[Row]:
    """Milliseconds and memory added, of the loss and the gradient with respect to the logits."""
    mine = {name: Side("loss_alone:ours", {"divergence": name}) for name in ("jsd", "forward_kl")}
    rows = []
    for what, against, own, other in (
        ("JSD ½", "TRL", mine["jsd"], Side("loss_alone:trl", {"beta": 0.5})),
        ("forward KL", "TRL", mine["forward_kl"], Side("loss_alone:trl", {"beta": 0.0})),
        ("forward KL", "torchtune, chunked", mine["forward_kl"], Side("loss_alone:torchtune")),
        ("JSD ½ and heads", "Liger", Side("loss_alone:ours_with_head"), Side("loss_alone:liger")),
    ):
        found = alternate(
            {"ours": own, "theirs": other},
        )
        rows.append(_row(f"loss alone, {what}", against, found))
    found = alternate(
        {"ours": Side("loss_alone:cached"), "theirs": Side("loss_alone:trl", {"beta": 0.0})}
    )
    ratio, spread = middle(ratios(found["theirs"], found["ours"], "seconds"))
    memory = [median(found[side], "added_mb") for side in ("ours", "theirs")]
    rows.append(
        Row(
            what=f"loss alone, forward KL from {KEPT} kept words",
            against="TRL, all words",
            value=f"{1e3 * median(found['ours'], 'seconds'):,.0f} and "
            f"{1e3 * median(found['theirs'], 'seconds'):,.0f} ms, {memory[0]:,.0f} and "
            f"{memory[1]:,.0f} MB",
            ratio=ratio,
            spread=spread,
            target="faster, ≤ 1/10 of the memory",
            met=ratio > 1 and memory[0] <= memory[1] / 10,
            remark="what students learn from by default; not the same work",
            numbers=found,
        )
    )
    return rows
