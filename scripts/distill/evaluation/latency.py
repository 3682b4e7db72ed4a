"""Time and memory of greedy generation at batch 1, or of an encoder's forward pass."""

import gc
import platform
import statistics
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoConfig

from distill.core.checksums import check_files
from distill.core.errors import UserError
from distill.core.files import write_json
from distill.core.units import BYTES_PER_MB
from distill.evaluation.quiet_timing import repeat_until_quiet
from distill.models.flops import FlopModel, active_parameters, count_parameters, model_size_mb
from distill.models.opening import quantised, resolve_precision
from distill.models.stepping import accepted
from distill.models.weights import open_weights
from distill.runtime.device import device as machine_device
from distill.runtime.device import hardware
from distill.runtime.environment import versions
from distill.runtime.memory import memory_now, peak_memory, reset_peak

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16}
FLOPS_CONTEXT = 128


@dataclass(frozen=True)
class Timing:
    """Seconds of one generation: the prefill that gives the first token, then the other steps."""

    prefill_s: float
    decode_s: float

    @property
    def latency_s(self) -> float:
        """Seconds of the whole generation, first token included."""
        return self.prefill_s + self.decode_s


def measure_efficiency(
    model_dir: str | Path,
    *,
    new_tokens: int = 128,
    prompt_tokens: int = 32,
    repeats: int = 10,
    warmup: int = 2,
    threads: int,
    precision: str,
    device: str,
    quantisation: str = "none",
) -> dict[str, Any]:
    """Measure the speed, memory and cost of greedy generation at batch 1 with a key-value cache.

    Each repeat runs a fixed random prompt (prefill: the first new token), then `new_tokens` - 1
    steps of one token; the end-of-text token does not stop generation. Random weights suffice.

    Args:
        model_dir: directory with `config.json` and safetensors weights of a causal model. Nothing
            is downloaded, and the model's code is never run.
        new_tokens: tokens generated per repeat, at least 2.
        prompt_tokens: length of the prompt, at least 1.
        repeats: undisturbed timed runs, at least 1; 10 or more for reports. There may be more
            runs than that, see `repeat_until_quiet`.
        warmup: untimed runs before them.
        threads: PyTorch's intra-op threads; the earlier number is put back afterwards.
        precision: "fp32" or "bf16", the type of weights, activations and cache.
        device: "cpu" or "cuda".
        quantisation: "none", "int8" or "nf4".

    Returns:
        A plain JSON record:

        - tokens_per_second: `new_tokens` / mean latency over the quiet repeats, where latency is
          that of the whole generation, first token included; tokens_per_second_median:
          `new_tokens` / median latency.
        - latency_mean_s, latency_median_s, latency_p90_s: over the repeats, p90 by linear
          interpolation.
        - ttft_ms: median time to first token, the prefill alone.
        - decode_tokens_per_second: median over the repeats of (`new_tokens` - 1) / decode time.
        - size_mb: parameters in the given precision, MB of 1024**2 bytes, tied ones once.
        - peak_memory_mb, baseline_memory_mb: on "cpu" the process's highest resident size and its
          resident size before the model was loaded, both including the Python and PyTorch
          runtimes; a call in a fresh process gives the cleanest difference. On "cuda" the highest
          memory PyTorch allocated on the device and what it held before.
        - peak_memory_span: "generation" where the peak covers the warm-up and timed runs with the
          model resident; "process" where the system cannot reset its high-water mark, so that
          loading, and whatever the process did earlier, count too.
        - params, params_non_embedding: see `count_parameters`; params_active: those that a token
          uses, see `active_parameters`.
        - flops_per_token: one cached step at a context of 128 tokens; flops_counted: whether
          torch's counter gives them, see `FlopModel`.
        - repeats_measured: timed runs in all; disturbed: whether fewer than `repeats` were quiet.
        - new_tokens, prompt_tokens, repeats, warmup, threads, precision, device, device_name.

    Raises:
        UserError: an argument is out of range, CUDA is missing, the model cannot be loaded, its
            FLOPs cannot be counted, or prompt and new tokens exceed its context.
    """
    _check_arguments(
        threads,
        precision,
        device,
        new_tokens=(new_tokens, 2),
        prompt_tokens=(prompt_tokens, 1),
        repeats=(repeats, 1),
        warmup=(warmup, 0),
    )
    exceeding = f"a prompt of {prompt_tokens} and {new_tokens} new tokens exceed"
    _check_context(model_dir, prompt_tokens + new_tokens, exceeding)

    def generate(model: Any) -> Timing:
        prompt = _prompt(model.config.vocab_size, (1, prompt_tokens), device)
        return time_generation(model, prompt, new_tokens)

    timings, flops, record = _measured(
        model_dir,
        generate,
        attrgetter("latency_s"),
        repeats,
        warmup,
        threads,
        precision,
        device,
        quantisation,
    )
    return summarise(timings, new_tokens) | {
        **record,
        "flops_per_token": flops.per_generated_token(FLOPS_CONTEXT),
        "new_tokens": new_tokens,
        "prompt_tokens": prompt_tokens,
    }


def measure_encoder(
    model_dir: str | Path,
    *,
    length: int,
    scored: int,
    batch: int = 1,
    repeats: int = 10,
    warmup: int = 2,
    threads: int,
    precision: str,
    device: str,
    quantisation: str = "none",
) -> dict[str, Any]:
    """Measure a masked model's own forward pass over random tokens, logits at every position.

    Args:
        model_dir: directory with `config.json` and safetensors weights of a masked model.
        length: tokens of a sequence.
        scored: masked positions, as in training and evaluation.
        batch: sequences of a pass.
        repeats, warmup, threads, precision, device, quantisation: as for `measure_efficiency`.

    Returns:
        The record of `measure_efficiency`, where a forward pass stands for a generation:
        tokens_per_second and its median are batch x length over the mean and median latency,
        forward_ms the median latency. flops_per_token are per token to be found, as losses and
        numbers of tokens are: a pass over a sequence with logits at `scored` places, over `scored`.
        It has batch, length and scored in place of new_tokens and prompt_tokens, and no time to
        first token.

    Raises:
        UserError: as `measure_efficiency`.
    """
    _check_arguments(
        threads,
        precision,
        device,
        batch=(batch, 1),
        length=(length, 1),
        scored=(scored, 1),
        repeats=(repeats, 1),
        warmup=(warmup, 0),
    )
    _check_context(model_dir, length, f"sequences of {length} tokens exceed")

    @torch.inference_mode()
    def read(model: Any) -> float:
        ids = _prompt(model.config.vocab_size, (batch, length), device)
        _synchronise(ids.device)
        start = time.perf_counter()
        model(input_ids=ids)
        _synchronise(ids.device)
        return time.perf_counter() - start

    seconds, flops, record = _measured(
        model_dir, read, float, repeats, warmup, threads, precision, device, quantisation
    )
    latencies = _latencies(seconds, batch * length)
    return latencies | {
        **record,
        "forward_ms": 1000 * latencies["latency_median_s"],
        "flops_per_token": flops.sequence_forward(length, scored) / scored,
        "batch": batch,
        "scored": scored,
        "length": length,
    }


def _measured(
    model_dir: str | Path,
    work: Callable[[Any], Any],
    seconds_of: Callable[[Any], float],
    repeats: int,
    warmup: int,
    threads: int,
    precision: str,
    device: str,
    quantisation: str,
) -> tuple[list[Any], FlopModel, dict[str, Any]]:
    """The results of quiet repeats of some work with a model, its FLOPs, and its record."""
    threads_before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        gc.collect()
        baseline = memory_now(device)
        model = _load(model_dir, PRECISIONS[precision], device, quantisation)
        gc.collect()
        span = "generation" if reset_peak(device) else "process"
        for _ in range(warmup):
            work(model)
        timings = repeat_until_quiet(lambda: work(model), seconds_of, repeats, device == "cpu")
        peak = peak_memory(device)
    finally:
        torch.set_num_threads(threads_before)
    params, params_non_embedding = count_parameters(model)
    flops = FlopModel.from_model(model)
    record = {
        "size_mb": model_size_mb(model),
        "peak_memory_mb": peak / BYTES_PER_MB,
        "baseline_memory_mb": baseline / BYTES_PER_MB,
        "peak_memory_span": span,
        "params": params,
        "params_non_embedding": params_non_embedding,
        "params_active": active_parameters(model),
        "flops_counted": flops.counted,
        "repeats": repeats,
        "repeats_measured": timings.total,
        "disturbed": int(timings.disturbed),
        "warmup": warmup,
        "threads": threads,
        "precision": precision,
        "device": device,
        "device_name": _device_name(device),
    }
    return timings.quiet, flops, record


def summarise(timings: list[Timing], new_tokens: int) -> dict[str, float]:
    """Summarise the timings of generations of `new_tokens` tokens each.

    Returns:
        The speeds (tokens per second), latencies (seconds) and time to first token (milliseconds)
        described at `measure_efficiency`.
    """
    return _latencies([timing.latency_s for timing in timings], new_tokens) | {
        "ttft_ms": 1000 * statistics.median(timing.prefill_s for timing in timings),
        "decode_tokens_per_second": statistics.median(
            (new_tokens - 1) / timing.decode_s for timing in timings
        ),
    }


def _latencies(seconds: list[float], tokens: int) -> dict[str, float]:
    """Mean, median and 90th percentile of latencies, and speeds at so many tokens each."""
    mean, median = statistics.fmean(seconds), statistics.median(seconds)
    return {
        "tokens_per_second": tokens / mean,
        "tokens_per_second_median": tokens / median,
        "latency_mean_s": mean,
        "latency_median_s": median,
        "latency_p90_s": float(np.quantile(seconds, 0.9)),
    }


@torch.inference_mode()
def time_generation(model: Any, prompt: torch.Tensor, new_tokens: int) -> Timing:
    """Time one greedy generation of exactly `new_tokens` tokens with the model's own cache.

    A model without a cache (GPT-1) runs its whole text at every step.

    Args:
        model: a Hugging Face causal model in evaluation mode.
        prompt: token ids, [1, prompt length], on the model's device.
        new_tokens: tokens to generate, at least 1; the end-of-text token does not stop it.
    """
    settings = accepted(model, use_cache=True, logits_to_keep=1)
    _synchronise(prompt.device)
    start = time.perf_counter()
    token, past = _next_token(model, prompt, settings)
    _synchronise(prompt.device)
    first, text = time.perf_counter(), prompt
    for _ in range(new_tokens - 1):
        text = token if past else torch.cat([text, token], dim=1)
        token, past = _next_token(model, text, settings | past)
    _synchronise(prompt.device)
    return Timing(first - start, time.perf_counter() - first)


def _next_token(
    model: Any, ids: torch.Tensor, settings: dict[str, Any]
) -> tuple[torch.Tensor, dict[str, Any]]:
    """The likeliest next token, [1, 1], and the cache by the model's name for it, if it has one."""
    output = model(input_ids=ids, **settings)
    caches = {name: output.get(name) for name in ("past_key_values", "cache_params", "state")}
    past = {name: cache for name, cache in caches.items() if cache is not None}
    return output.logits[:, -1:].argmax(-1), accepted(model, **past)


def _prompt(vocabulary: int, shape: tuple[int, int], device: str) -> torch.Tensor:
    """Return fixed random token ids, [sequences, length]."""
    generator = torch.Generator().manual_seed(0)
    return torch.randint(vocabulary, shape, generator=generator).to(device)


def _synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _check_arguments(threads: int, precision: str, device: str, **least: tuple[int, int]) -> None:
    """Check arguments; `least` are numbers with the smallest that each may be."""
    for name, (value, minimum) in {**least, "threads": (threads, 1)}.items():
        if value < minimum:
            raise UserError(f"{name} is {value}; set it to {minimum} or more")
    if precision not in PRECISIONS:
        raise UserError(f"precision is {precision!r}; choose fp32 or bf16")
    if device not in ("cpu", "cuda"):
        raise UserError(f"device is {device!r}; choose cpu or cuda")
    if device == "cuda" and not torch.cuda.is_available():
        raise UserError("device is cuda but PyTorch sees no CUDA device; choose cpu")


def _check_context(model_dir: str | Path, tokens: int, what: str) -> None:
    if not (Path(model_dir) / "config.json").is_file():
        raise UserError(f"{model_dir} holds no config.json; give a Hugging Face model directory")
    try:
        config = AutoConfig.from_pretrained(
            model_dir, trust_remote_code=False, local_files_only=True
        )
    except (OSError, ValueError) as error:
        raise _unloadable(model_dir, error) from error
    context = getattr(config.get_text_config(), "max_position_embeddings", None)
    if context and tokens > context:
        raise UserError(f"{what} the context of {context} tokens of {model_dir}; lower them")


def _load(model_dir: str | Path, dtype: torch.dtype, device: str, quantisation: str) -> Any:
    check_files(model_dir)
    settings = quantised(quantisation, dtype)
    try:
        model = open_weights(model_dir, dtype=dtype, device_map={"": device}, **settings)
    except (OSError, ValueError) as error:
        raise _unloadable(model_dir, error) from error
    return model.eval()


def _unloadable(model_dir: str | Path, error: Exception) -> UserError:
    reason = " ".join(str(error).split()).rstrip(".")
    return UserError(
        f"{model_dir} cannot be loaded as a language model ({reason}); check its files"
    )


def _device_name(device: str) -> str:
    if device == "cuda":
        return torch.cuda.get_device_name()
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def measure_architecture(model: str | Path, out: str | Path, spec: dict[str, Any]) -> None:
    """Time an architecture alone on this machine and write its record.

    Args:
        model: A file in the model's directory.
        out: The record, JSON.
        spec: threads, precision, repeats and architecture; new_tokens, or length and scored (and
            batch) for an encoder; stored in the record.

    Raises:
        UserError: As `measure_efficiency`.
    """
    measure = measure_encoder if "length" in spec else measure_efficiency
    names = ("new_tokens", "batch", "length", "scored")
    record = measure(
        Path(model).parent,
        **{name: spec[name] for name in names if name in spec},
        repeats=spec["repeats"],
        warmup=1,
        threads=spec["threads"],
        precision=resolve_precision(spec["precision"]),
        device=machine_device().type,
        quantisation=spec["architecture"].get("quantisation", "none"),
    )
    record = {"schema": 1, "spec": spec, **record, "hardware": hardware(), "versions": versions()}
    write_json(out, record)
