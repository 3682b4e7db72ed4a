"""Open a model directory safely, with the device and precision that suit the machine."""

import logging
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, BitsAndBytesConfig

from distill.core.checksums import SAFE, check_files
from distill.core.errors import UserError
from distill.models.attention import GROUPED, use_grouped
from distill.models.forward import is_masked
from distill.models.positions import context_of
from distill.models.weights import open_weights
from distill.runtime.device import device


def bf16_gains() -> bool:
    """Whether bf16 matrix products beat fp32 on this machine by at least a third.

    Instruction sets do not tell (some CPUs emulate bf16), so products are timed, alternating
    between the types. With AVX512-BF16 or AMX the factor is 2 to 3, far from the threshold.
    Processor time of one thread is used, because wall time beside busy jobs gave the wrong answer
    in 10 % of calls.
    """
    if torch.cuda.is_available():
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        return False
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    seconds = {torch.float32: float("inf"), torch.bfloat16: float("inf")}
    for _ in range(12):
        for dtype, best in seconds.items():
            left, right = torch.ones(256, 576, dtype=dtype), torch.ones(1536, 576, dtype=dtype)
            start = time.thread_time()
            torch.nn.functional.linear(left, right)
            seconds[dtype] = min(best, time.thread_time() - start)
    torch.set_num_threads(threads)
    return seconds[torch.float32] > 4 / 3 * seconds[torch.bfloat16]


def resolve_precision(precision: str) -> str:
    """Replace `auto` by `bf16` if the machine gains from it, else by `fp32`; keep others."""
    if precision == "auto":
        return "bf16" if bf16_gains() else "fp32"
    return precision


def dtype_of(precision: str) -> torch.dtype:
    """The torch type of a resolved precision (`bf16`, `fp16` or `fp32`)."""
    return {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}[precision]


def attention_for(sequence: int) -> str | None:
    """The attention implementation for sequences of up to `sequence` tokens on this device.

    None lets the library choose: its fused kernel if the architecture supports it.
    """
    return GROUPED if device().type == "cpu" and sequence <= 1024 else None


def choose_attention(model: Any, sequence: int) -> Any:
    """The model with the attention implementation that suits sequences of up to `sequence` tokens.

    On a CPU that is `grouped_attention` where the architecture gives the same logits with it, else
    the library's choice: its fused kernel if the architecture supports it.
    """
    if attention_for(sequence) == GROUPED and not use_grouped(model):
        logging.info("%s keeps its attention of the library", type(model).__name__)
    return model


def _opened(model: Any) -> Any:
    """Switch a model to evaluation mode and log the settings that were chosen."""
    logging.info(
        "%s on %s, weights %s, attention %s, %d threads",
        type(model).__name__,
        model.device,
        str(model.dtype).removeprefix("torch."),
        model.config._attn_implementation,
        torch.get_num_threads(),
    )
    return model.eval()


def load_model(path: str | Path, *, precision: str, sequence: int) -> Any:
    """Load a causal or masked language model for evaluation, on this machine's device.

    Args:
        path: Directory with `config.json` and safetensors weights.
        precision: Resolved precision of the weights.
        sequence: Longest sequence in tokens; it decides the attention kernel.

    Raises:
        UserError: The sequence does not fit the model's context, or a file is damaged.
    """
    config = AutoConfig.from_pretrained(path, **SAFE)
    check_context(config, sequence, str(path))
    check_files(path)
    model = open_weights(path, dtype=dtype_of(precision))
    return _opened(choose_attention(model.to(device()), sequence))


def quantised(quantisation: str, dtype: torch.dtype) -> dict[str, Any]:
    """Settings of `from_pretrained` for 4- or 8-bit weights by bitsandbytes; {} for `none`.

    nf4: QLoRA (Dettmers 2023); int8: LLM.int8() (Dettmers 2022).
    """
    if quantisation == "nf4":
        settings = BitsAndBytesConfig(
            load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=dtype
        )
        return {"quantization_config": settings}
    if quantisation == "int8":
        return {"quantization_config": BitsAndBytesConfig(load_in_8bit=True)}
    return {}


def load_teacher(path: str | Path, spec: dict[str, Any], *, sequence: int) -> Any:
    """Load a teacher with the settings of its spec.

    Args:
        path: Directory with `config.json` and safetensors weights.
        spec: precision, quantisation (`none`, `int8` or `nf4`) and device_map.
        sequence: Longest sequence in tokens.

    Raises:
        UserError: The sequence does not fit the model's context, or a file is damaged.
    """
    precision = resolve_precision(spec["precision"])
    if spec["quantisation"] == "none" and spec["device_map"] is None:
        return load_model(path, precision=precision, sequence=sequence)
    config = AutoConfig.from_pretrained(path, **SAFE)
    check_context(config, sequence, str(path))
    check_files(path)
    settings = quantised(spec["quantisation"], dtype_of(precision))
    settings["device_map"] = spec["device_map"] or {"": device()}
    model = open_weights(path, dtype=dtype_of(precision), **settings)
    if spec["quantisation"] == "nf4":
        _check_nf4(model, str(path))
    return _opened(choose_attention(model, sequence))


@torch.inference_mode()
def _check_nf4(model: Any, name: str) -> None:
    """Try each kind of 4-bit layer once: bitsandbytes has no kernels of some widths on some CPUs.

    Raises:
        UserError: A layer cannot be run.
    """
    from bitsandbytes.nn import Linear4bit

    kinds = {
        (module.in_features, module.out_features): module
        for module in model.modules()
        if isinstance(module, Linear4bit)
    }
    for (width, _), module in kinds.items():
        try:
            module(torch.zeros(1, width, dtype=model.dtype, device=module.weight.device))
        except RuntimeError as error:
            raise UserError(
                f"{name} has a layer with inputs of width {width}, which bitsandbytes does not run "
                f"in 4 bits on this device ({' '.join(str(error).split())[:100]}); set the "
                "teacher's quantisation to none or int8"
            ) from None


def check_kind(config: Any, rows: Sequence[dict[str, Any]], name: str) -> None:
    """Check that masked chunks have a masked model, and other text a causal one.

    Args:
        config: Hugging Face config of the model.
        rows: Rows of text.
        name: Name of the model.

    Raises:
        UserError: They do not match.
    """
    masked = bool(rows) and "positions" in rows[0]
    if masked != is_masked(config):
        kind = "masked" if is_masked(config) else "causal"
        remedy = "a masked model such as BERT" if masked else "a causal model"
        raise UserError(
            f"{name} is a {kind} language model ({config.model_type}), which the study's task does "
            f"not support; name {remedy}, or set the task for this model"
        )


def check_context(config: Any, sequence: int, name: str) -> None:
    """Raise UserError if `sequence` tokens exceed the context of a model's `config`."""
    context = context_of(config)
    if context is not None and sequence > context:
        raise UserError(
            f"{name} reads at most {context} tokens but up to {sequence} are needed; lower "
            "prompts.max_tokens, the teacher's max_tokens, evaluate.instruction_tokens or "
            "train.max_length (corpus.length)"
        )
