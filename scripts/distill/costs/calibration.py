"""Time this machine for some seconds: the speeds that a plan's estimates of time rest on.

What is timed is short but real: a training step, a scoring pass and decoding steps of a random
Llama of two layers, as wide as the study's models (at most `WIDEST`), through the library's own
loss, optimiser and sampler; the body with a vocabulary of 256 words, the head and all that goes
over its logits with the study's vocabulary. Each is run once unmeasured, then the least of several
times is taken: as if nothing else ran on the machine.
"""

import functools
import io
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import redirect_stderr
from dataclasses import asdict
from typing import Any

import torch
from transformers import (
    AutoModelForCausalLM,
    DynamicCache,
    LlamaConfig,
    PrinterCallback,
    TrainingArguments,
)

from distill.costs.work import Machine, Probe, Speed
from distill.models.decoding import Decoding
from distill.models.drawing import pick
from distill.models.encoding import collate
from distill.models.flops import FlopModel
from distill.models.heads import OutputHead, state_bytes
from distill.models.opening import attention_for, bf16_gains, dtype_of, resolve_precision
from distill.models.rows import Example
from distill.runtime.device import device, hardware
from distill.targets.caching import cache_targets
from distill.training.batches import Item
from distill.training.losses import sparse_cross_entropy
from distill.training.objective import Objective
from distill.training.trainer import DistillationTrainer

BUDGET = 0.4
"""Seconds of repeating a piece of work, of which the least time is taken."""
WIDEST = 1024
LENGTH = 64
"""Tokens of a sequence in the training and scoring step."""
BATCH, CONTEXT = 4, 64
ENTROPY_SCALE = 5.0
"""Standard deviation of random logits whose entropy is of a language model's order, 1 to 2 nats."""


def _least(work: Callable[[], Any]) -> float:
    """Least seconds of a piece of work, done once before and then for about `BUDGET` seconds.

    On one CPU thread processor time is taken, in which other work on the machine does not count.
    """
    alone = torch.get_num_threads() == 1 and device().type == "cpu"
    clock = time.process_time if alone else time.perf_counter
    work()
    began, best, number = time.perf_counter(), float("inf"), 0
    while number < 2 or (number < 20 and time.perf_counter() - began < BUDGET):
        _wait()
        start = clock()
        work()
        _wait()
        best, number = min(best, clock() - start), number + 1
    return best


def _wait() -> None:
    if device().type == "cuda":
        torch.cuda.synchronize()


def small_model(width: int, dtype: torch.dtype = torch.float32) -> Any:
    """A random Llama of two layers, 256 words and about a width, which is cut to `WIDEST`."""
    heads = max(1, min(width, WIDEST) // 64)
    width = max(8, min(width, WIDEST) // heads // 2 * heads * 2)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=256, hidden_size=width, intermediate_size=8 * width // 3, num_hidden_layers=2,
        num_attention_heads=heads, num_key_value_heads=heads, tie_word_embeddings=True,
    )  # fmt: skip
    model = AutoModelForCausalLM.from_config(config, attn_implementation=attention_for(LENGTH))
    return model.to(device=device(), dtype=dtype)


def _autocast(precision: str) -> Any:
    return torch.autocast(device().type, dtype=torch.bfloat16, enabled=precision == "bf16")


def _sequences(rows: int, length: int) -> torch.Tensor:
    torch.manual_seed(0)
    return torch.randint(256, (rows, length)).to(device())


def _training(probe: Probe) -> Speed:
    model, ids = small_model(probe.width), _sequences(BATCH, LENGTH)
    flops = FlopModel.from_model(model)

    def body() -> None:
        with _autocast(probe.precision):
            states = model.base_model(input_ids=ids, use_cache=False).last_hidden_state
        states.float().mean().backward()

    tokens = BATCH * LENGTH // 2  # answers are about half of a sequence
    weight = torch.randn(probe.vocabulary, probe.width, device=device(), requires_grad=True)
    states = torch.randn(tokens, probe.width, device=device(), requires_grad=True)
    targets = torch.zeros(tokens, 1, dtype=torch.long, device=device())
    even = torch.full((tokens, 1), 1 / tokens, device=device())

    def head() -> None:
        with _autocast(probe.precision):
            logits = torch.nn.functional.linear(states, weight)
            loss, _ = sparse_cross_entropy(logits, targets, even)
        loss.backward()
        weight.grad = states.grad = None

    count = 3 * BATCH * flops.sequence_forward(LENGTH, 0)
    return Speed(count / _least(body), 6.0 * weight.numel() * tokens / _least(head))


@torch.inference_mode()
def _scoring(probe: Probe) -> Speed:
    dtype = dtype_of(probe.precision)
    model, ids = small_model(probe.width, dtype), _sequences(BATCH, LENGTH)
    tokens = BATCH * LENGTH // 2
    weight = torch.randn(probe.vocabulary, probe.width, device=device()).to(dtype)
    states = torch.randn(tokens, probe.width, device=device()).to(dtype)
    body = _least(lambda: model.base_model(input_ids=ids, use_cache=False))
    head = _least(
        lambda: torch.softmax(torch.nn.functional.linear(states, weight).float(), -1).argmax(-1)
    )
    count = BATCH * FlopModel.from_model(model).sequence_forward(LENGTH, 0)
    return Speed(count / body, 2.0 * weight.numel() * tokens / head)


@torch.inference_mode()
def _decoding(probe: Probe) -> Speed:
    dtype = dtype_of(probe.precision)
    model, steps = small_model(probe.width, dtype).eval(), 2
    flops, prompt = FlopModel.from_model(model), _sequences(probe.rows, CONTEXT)
    token, cache = prompt[:, :1], DynamicCache(config=model.config)
    model.base_model(input_ids=prompt, past_key_values=cache, use_cache=True)
    held = cache.get_seq_length()

    def body() -> None:
        for _ in range(steps):
            model.base_model(input_ids=token, past_key_values=cache, use_cache=True)
        cache.crop(-steps)

    weight = torch.randn(probe.vocabulary, probe.width, device=device()).to(dtype)
    states = torch.randn(probe.rows, probe.width, device=device()).to(dtype)
    noise = torch.full((probe.rows,), 0.5, dtype=torch.float64, device=device())

    def head() -> None:
        pick(torch.nn.functional.linear(states, weight), Decoding(0.7), noise)

    contexts = sum(held + step + 1 for step in range(steps))
    count = probe.rows * flops.forward(steps, contexts, 0)
    return Speed(count / _least(body), 2.0 * weight.numel() * probe.rows / _least(head))


def speed(probe: Probe) -> Speed:
    """FLOPs per second of body and head in one kind of work.

    Several threads wait for each other where other work holds a core, which would show as a speed
    that an idle machine does not have: if one thread alone is faster, its speed is taken.
    """
    before = torch.get_num_threads()
    made = {"train": _training, "score": _scoring, "decode": _decoding, "single": _decoding}
    found = []
    for threads in {1, probe.threads} if device().type == "cpu" else {probe.threads}:
        torch.set_num_threads(threads)
        found.append(made[probe.kind](probe))
    torch.set_num_threads(before)
    return Speed(max(own.body for own in found), max(own.head for own in found))


def gemm_rate(precision: str, threads: int) -> float:
    """FLOPs per second of a bare matrix product, the product of `bf16_gains` four times as deep."""
    before, dtype = torch.get_num_threads(), dtype_of(precision)
    torch.set_num_threads(threads)
    left = torch.ones(256, 2304, dtype=dtype, device=device())
    right = torch.ones(1536, 2304, dtype=dtype, device=device())
    seconds = _least(lambda: torch.nn.functional.linear(left, right))
    torch.set_num_threads(before)
    return 2.0 * 256 * 1536 * 2304 / seconds


def optimiser_seconds(threads: int) -> float:
    """Seconds per parameter of clipping, AdamW (fused) and clearing the gradients."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    weight = torch.nn.Parameter(torch.randn(4_000_000, device=device()))
    adam = torch.optim.AdamW([weight], lr=1e-3, fused=True)

    def step() -> None:
        weight.grad = torch.ones_like(weight)
        torch.nn.utils.clip_grad_norm_([weight], 1.0)
        adam.step()
        adam.zero_grad()

    seconds = _least(step) / weight.numel()
    torch.set_num_threads(before)
    return seconds


def update_seconds() -> float:
    """Seconds that the trainer itself takes per update: logging, scheduling, gathering a batch."""
    model = small_model(8)
    objective = Objective({"ce": 1.0, "hidden": None, "embedding": None} | _no_soft_losses())
    items = [Item(Example([1], [2, 3])) for _ in range(12)]
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            output_dir=folder, num_train_epochs=1, per_device_train_batch_size=1, logging_steps=1,
            report_to=[], save_strategy="no", remove_unused_columns=False, disable_tqdm=True,
            use_cpu=device().type == "cpu", dataloader_pin_memory=False,
        )  # fmt: skip
        trainer = DistillationTrainer(
            objective, None, "fp32", FlopModel.from_model(model), model=model, args=arguments,
            train_dataset=items, data_collator=lambda batch: collate(
                [item.example for item in batch], 0
            ),
        )  # fmt: skip
        trainer.remove_callback(PrinterCallback)
        start = time.process_time()
        trainer.train()
    return (time.process_time() - start) / len(items)


def _no_soft_losses() -> dict[str, float]:
    from distill.config.methods import LOSSES

    return dict.fromkeys(LOSSES[1:], 0.0)


def encoding_seconds(spec: Mapping[str, Any], vocabulary: int, threads: int) -> float:
    """Seconds per token of making a cache's soft targets from hidden states, all but the head's
    matrix product, on random logits whose entropy is of a language model's order.

    Args:
        spec: The cache's settings, as in the config.
        vocabulary: Of the teacher.
        threads: Of the job.
    """
    before, tokens, width = torch.get_num_threads(), 48, 8
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    weight = torch.randn(vocabulary, width) * ENTROPY_SCALE / width**0.5
    states = torch.randn(tokens, width).to(torch.bfloat16)
    row = {"id": "a", "tokens": tokens, "hidden": state_bytes(states), "flops": 0.0, "seconds": 0.0}
    given = {**spec, "scorers": [{"temperature": 1.0, "top_k": 0, "top_p": 1.0, "weight": 1.0}]}
    heads = [OutputHead(weight, None, 0.0, 1.0)]
    with redirect_stderr(io.StringIO()):  # its progress bar
        seconds = _least(lambda: cache_targets([[row]], heads, given))
    torch.set_num_threads(before)
    return seconds / tokens


def start_of_job(modules: str) -> tuple[float, float]:
    """Processor seconds of a fresh process that imports what a job imports, and its resident bytes.

    Other work on the machine does not count into processor seconds.
    """
    code = f"import sys; sys.path[:0] = {sys.path!r}\nimport {modules}, psutil, time\n"
    code += "print(time.process_time(), psutil.Process().memory_info().rss)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    seconds, held = done.stdout.split()
    return float(seconds), float(held)


class Calibration:
    """The measurements of one plan, each made when it is first asked for.

    Args:
        threads: Of a training job, for what does not depend on a model.
    """

    def __init__(self, threads: int) -> None:
        self.threads, self.spent = threads, 0.0
        self.speeds: dict[Probe, Speed] = {}
        self.encodings: list[dict[str, Any]] = []

    def _timed(self, work: Callable[[], Any]) -> Any:
        start = time.perf_counter()
        found = work()
        self.spent += time.perf_counter() - start
        return found

    def speed(self, probe: Probe) -> Speed:
        """`speed`, once per probe."""
        if probe not in self.speeds:
            self.speeds[probe] = self._timed(lambda: speed(probe))
        return self.speeds[probe]

    def encoding(self, spec: Mapping[str, Any], vocabulary: int, threads: int) -> float:
        """`encoding_seconds`, once per cache."""
        asked = {"spec": dict(spec), "vocabulary": vocabulary, "threads": threads}
        for made in self.encodings:
            if all(made[key] == value for key, value in asked.items()):
                return float(made["s_per_token"])
        found = self._timed(lambda: encoding_seconds(spec, vocabulary, threads))
        self.encodings.append({**asked, "s_per_token": found})
        return float(found)

    @functools.cached_property
    def machine(self) -> Machine:
        """This machine."""
        start, held = self._timed(lambda: start_of_job("distill.training.run"))
        analysis, _ = self._timed(
            lambda: start_of_job("distill.figures.draw, distill.table.collect")
        )
        return Machine(
            speed=self.speed,
            encoding=self.encoding,
            precision=functools.cache(precision_of),
            optimiser=self._timed(lambda: optimiser_seconds(self.threads)),
            update=self._timed(update_seconds),
            start=start,
            analysis_start=analysis,
            runtime=held,
        )

    def record(self) -> dict[str, Any]:
        """All measurements as plain JSON."""
        own = self.machine
        rates = {}
        for name in ("fp32", "bf16"):
            rates[name] = self._timed(functools.partial(gemm_rate, name, self.threads))
        return {
            "device": device().type,
            "hardware": hardware(),
            "threads": self.threads,
            "bf16_gains": bf16_gains(),
            "gemm_flops_per_s": rates,
            "speeds": [
                asdict(probe) | {"body_flops_per_s": found.body, "head_flops_per_s": found.head}
                for probe, found in self.speeds.items()
            ],
            "encodings": self.encodings,
            "optimiser_s_per_param": own.optimiser,
            "update_s": own.update,
            "job_start_s": own.start,
            "analysis_start_s": own.analysis_start,
            "runtime_bytes": own.runtime,
            "seconds": self.spent,
        }


def precision_of(named: str) -> str:
    """A config's precision on this machine; fp16 is timed as bf16."""
    found = resolve_precision(named)
    return "bf16" if found == "fp16" else found
