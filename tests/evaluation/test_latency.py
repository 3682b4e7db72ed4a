import functools
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

from distill.core.errors import UserError
from distill.evaluation import latency
from distill.evaluation.latency import Timing, measure_efficiency, summarise
from distill.models.flops import FlopModel
from distill.runtime import memory

CONTEXT = 48
EOS = 0
SETTINGS: dict[str, Any] = {"threads": 1, "precision": "fp32", "device": "cpu"}
TEXTS = {"peak_memory_span", "precision", "device", "device_name", "flops_counted"}


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model whose logits are all zero, so that the end-of-text token is always the argmax."""
    config = LlamaConfig(
        vocab_size=61,
        hidden_size=24,
        intermediate_size=40,
        num_hidden_layers=2,
        num_attention_heads=6,
        num_key_value_heads=2,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=False,
        eos_token_id=EOS,
    )
    torch.manual_seed(0)
    model = LlamaForCausalLM(config)
    torch.nn.init.zeros_(model.lm_head.weight)
    path = tmp_path_factory.mktemp("llama")
    model.save_pretrained(path)
    return path


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[torch.Tensor]:
    """The ids of every forward pass, under a clock by which a prompt takes 1 s and a step 0.1 s."""
    seen: list[torch.Tensor] = []
    now = [0.0]
    forward = LlamaForCausalLM.forward

    @functools.wraps(forward)
    def recorded(self: Any, input_ids: torch.Tensor, **arguments: Any) -> Any:
        if not arguments["use_cache"]:  # one token that counts FLOPs
            return forward(self, input_ids, **arguments)
        seen.append(input_ids.clone())
        now[0] += 0.1 if input_ids.shape[1] == 1 else 1.0
        output = forward(self, input_ids, **arguments)
        assert output.logits.shape[1] == 1
        assert output.past_key_values.get_seq_length() >= input_ids.shape[1]
        return output

    monkeypatch.setattr(LlamaForCausalLM, "forward", recorded)
    for clock in ("perf_counter", "thread_time"):
        monkeypatch.setattr(latency.time, clock, lambda: now[0])
    return seen


@pytest.mark.slow
def test_exactly_the_new_tokens_are_forwarded(model_dir: Path, calls: list[torch.Tensor]) -> None:
    measure_efficiency(model_dir, new_tokens=7, prompt_tokens=5, repeats=3, warmup=2, **SETTINGS)
    assert len(calls) == (2 + 3) * 7
    for run in range(5):
        prompt, *steps = calls[7 * run : 7 * run + 7]
        assert prompt.shape == (1, 5)
        assert torch.equal(prompt, calls[0])
        assert all(step.tolist() == [[EOS]] for step in steps)


@pytest.mark.slow
def test_prefill_and_decoding_are_timed_apart(model_dir: Path, calls: list[torch.Tensor]) -> None:
    record = measure_efficiency(
        model_dir, new_tokens=11, prompt_tokens=5, repeats=2, warmup=0, **SETTINGS
    )
    assert record["ttft_ms"] == pytest.approx(1000)
    assert record["decode_tokens_per_second"] == pytest.approx(10)
    for name in ("latency_mean_s", "latency_median_s", "latency_p90_s"):
        assert record[name] == pytest.approx(2)
    assert record["tokens_per_second"] == pytest.approx(5.5)


@pytest.mark.slow
@pytest.mark.parametrize(("precision", "bytes_each"), [("fp32", 4), ("bf16", 2)])
def test_record(model_dir: Path, precision: str, bytes_each: int) -> None:
    threads = torch.get_num_threads()
    record = measure_efficiency(
        model_dir,
        new_tokens=6,
        prompt_tokens=4,
        repeats=3,
        warmup=1,
        threads=2,
        precision=precision,
        device="cpu",
    )
    assert torch.get_num_threads() == threads
    assert json.loads(json.dumps(record, allow_nan=False)) == record
    for name in record.keys() - TEXTS - {"disturbed"}:
        assert math.isfinite(record[name]), name
        assert record[name] > 0, name
    assert record["tokens_per_second"] == 6 / record["latency_mean_s"]
    assert record["tokens_per_second_median"] == 6 / record["latency_median_s"]
    assert record["ttft_ms"] / 1000 < record["latency_p90_s"]
    assert record["peak_memory_mb"] > record["size_mb"]
    assert record["peak_memory_span"] in {"generation", "process"}
    model = LlamaForCausalLM.from_pretrained(model_dir)
    assert record["params"] == sum(p.numel() for p in model.parameters())
    assert record["params_non_embedding"] == record["params"] - 2 * 61 * 24
    assert record["size_mb"] == record["params"] * bytes_each / 1024**2
    assert record["flops_per_token"] == FlopModel.from_model(model).per_generated_token(128)
    expected = {"new_tokens": 6, "prompt_tokens": 4, "repeats": 3, "warmup": 1, "threads": 2}
    assert record.items() >= (expected | {"precision": precision, "device": "cpu"}).items()
    assert record["device_name"]


def test_summary_of_known_timings() -> None:
    timings = [Timing(0.5, decode) for decode in (1.5, 0.5, 3.5)]
    summary = summarise(timings, 8)
    assert summary["latency_mean_s"] == pytest.approx(7 / 3)
    assert summary["latency_median_s"] == 2
    assert summary["latency_p90_s"] == pytest.approx(np.quantile([1, 2, 4], 0.9))
    assert summary["tokens_per_second"] == pytest.approx(8 * 3 / 7)
    assert summary["tokens_per_second_median"] == 4
    assert summary["ttft_ms"] == 500
    assert summary["decode_tokens_per_second"] == pytest.approx(7 / 1.5)


@pytest.mark.slow
def test_learned_positions_and_conv1d(tmp_path: Path) -> None:
    config = GPT2Config(vocab_size=61, n_embd=24, n_layer=2, n_head=3, n_positions=16)
    GPT2LMHeadModel(config).save_pretrained(tmp_path)
    record = measure_efficiency(
        tmp_path, new_tokens=10, prompt_tokens=6, repeats=1, warmup=0, **SETTINGS
    )
    assert record["params_non_embedding"] == record["params"] - (61 + 16) * 24
    with pytest.raises(UserError, match="context of 16"):
        measure_efficiency(tmp_path, new_tokens=11, prompt_tokens=6, **SETTINGS)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"new_tokens": CONTEXT, "prompt_tokens": 1}, f"context of {CONTEXT} tokens"),
        ({"new_tokens": 1}, "new_tokens is 1"),
        ({"prompt_tokens": 0}, "prompt_tokens is 0"),
        ({"repeats": 0}, "repeats is 0"),
        ({"warmup": -1}, "warmup is -1"),
        ({"threads": 0}, "threads is 0"),
        ({"precision": "fp8"}, "fp32 or bf16"),
        ({"device": "tpu"}, "cpu or cuda"),
    ],
)
def test_bad_arguments_are_refused(model_dir: Path, change: dict[str, Any], message: str) -> None:
    arguments = {"new_tokens": 4, "prompt_tokens": 4, **SETTINGS, **change}
    with pytest.raises(UserError, match=message) as caught:
        measure_efficiency(model_dir, **arguments)
    assert "\n" not in str(caught.value)


def test_missing_cuda_is_refused(model_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UserError, match="no CUDA device"):
        measure_efficiency(model_dir, threads=1, precision="fp32", device="cuda")


@pytest.mark.slow
def test_directories_without_a_model_are_refused(tmp_path: Path, model_dir: Path) -> None:
    with pytest.raises(UserError, match=r"no config\.json"):
        measure_efficiency(tmp_path, **SETTINGS)
    (tmp_path / "config.json").write_bytes((model_dir / "config.json").read_bytes())
    (tmp_path / "pytorch_model.bin").write_bytes(b"")
    with pytest.raises(UserError, match="cannot be loaded") as caught:
        measure_efficiency(tmp_path, new_tokens=4, prompt_tokens=4, **SETTINGS)
    assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_peak_falls_back_to_the_life_of_the_process(
    model_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "high_water_mark", lambda: None)
    record = measure_efficiency(
        model_dir, new_tokens=2, prompt_tokens=1, repeats=1, warmup=0, **SETTINGS
    )
    assert record["peak_memory_span"] == "process"
    assert record["peak_memory_mb"] > record["size_mb"]
