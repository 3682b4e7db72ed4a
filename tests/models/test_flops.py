import dataclasses
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import (
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    BertConfig,
    DistilBertConfig,
    DynamicCache,
    GPT2Config,
    GPTNeoXConfig,
    LlamaConfig,
    MixtralConfig,
    Qwen2Config,
    Qwen3Config,
    T5Config,
    T5ForConditionalGeneration,
)

from distill.core.errors import UserError
from distill.models.flops import FlopModel, count_parameters, model_size_mb

VOCABULARY = 97
SMALL: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 24,
    "intermediate_size": 40,
    "num_hidden_layers": 2,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
}


def tiny_gpt2(tied: bool) -> GPT2Config:
    return GPT2Config(
        vocab_size=VOCABULARY,
        n_embd=24,
        n_layer=2,
        n_head=3,
        n_positions=64,
        tie_word_embeddings=tied,
    )


CONFIGS = {
    "llama-gqa-tied": LlamaConfig(**SMALL, tie_word_embeddings=True),
    "llama-wide-heads-untied": LlamaConfig(**SMALL, head_dim=10, tie_word_embeddings=False),
    "gpt2-tied": tiny_gpt2(True),
    "gpt2-untied": tiny_gpt2(False),
    "qwen2-tied": Qwen2Config(**SMALL, tie_word_embeddings=True),
    "qwen3-untied": Qwen3Config(**SMALL, head_dim=8, tie_word_embeddings=False),
    "gpt-neox": GPTNeoXConfig(**{k: v for k, v in SMALL.items() if k != "num_key_value_heads"}),
}


@pytest.fixture(scope="module", params=list(CONFIGS.values()), ids=list(CONFIGS))
def model(request: pytest.FixtureRequest) -> Any:
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(request.param, attn_implementation="eager").eval()


def counted(call: Any) -> int:
    with FlopCounterMode(display=False) as counter:
        call()
    return counter.get_total_flops()


def ids(*shape: int) -> torch.Tensor:
    return torch.randint(VOCABULARY, shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.slow
@pytest.mark.parametrize("length", [1, 17])
def test_forward_equals_torch_counter(model: Any, length: int) -> None:
    with torch.inference_mode():
        total = counted(lambda: model(ids(1, length), use_cache=False))
    assert FlopModel.from_model(model).sequence_forward(length, length) == total


@pytest.mark.slow
def test_fewer_head_positions_equal_torch_counter(model: Any) -> None:
    with torch.inference_mode():
        total = counted(lambda: model(ids(1, 11), use_cache=False, logits_to_keep=5))
    assert FlopModel.from_model(model).sequence_forward(11, 5) == total


def test_batch_is_the_sum_of_its_sequences(model: Any) -> None:
    flops = FlopModel.from_model(model)
    with torch.inference_mode():
        total = counted(lambda: model(ids(3, 7), use_cache=False))
    assert flops.forward(3 * 7, 3 * 7**2, 3 * 7) == total == 3 * flops.sequence_forward(7, 7)


@pytest.mark.slow
def test_training_equals_torch_counter(model: Any) -> None:
    def step() -> None:
        model(ids(1, 17), use_cache=False).logits.sum().backward()
        model.zero_grad()

    assert FlopModel.from_model(model).sequence_training(17, 17) == counted(step)


@pytest.mark.slow
@pytest.mark.parametrize(("prompt", "new"), [(5, 4), (1, 2)])
def test_cached_generation_equals_torch_counter(model: Any, prompt: int, new: int) -> None:
    flops = FlopModel.from_model(model)
    cache = DynamicCache(config=model.config)
    with torch.inference_mode():
        prefill = counted(lambda: model(ids(1, prompt), past_key_values=cache, logits_to_keep=1))
        steps = [
            counted(lambda: model(ids(1, 1), past_key_values=cache, logits_to_keep=1))
            for _ in range(new - 1)
        ]
    assert prefill == flops.generation(prompt, 1) == flops.sequence_forward(prompt, 1)
    assert steps == [flops.per_generated_token(prompt + i) for i in range(1, new)]
    assert flops.generation(prompt, new) == prefill + sum(steps)


@pytest.mark.slow
def test_generate_of_the_library_costs_the_same(model: Any) -> None:
    def generate() -> None:
        model.generate(
            ids(1, 5),
            attention_mask=torch.ones(1, 5, dtype=torch.long),
            max_new_tokens=3,
            min_new_tokens=3,
            do_sample=False,
            pad_token_id=0,
        )

    assert FlopModel.from_model(model).generation(5, 3) == counted(generate)


@pytest.mark.parametrize(
    "config",
    [
        BertConfig(**{k: v for k, v in SMALL.items() if k != "num_key_value_heads"}),
        DistilBertConfig(vocab_size=VOCABULARY, dim=24, hidden_dim=40, n_layers=2, n_heads=6),
    ],
    ids=["bert", "distilbert"],
)
def test_masked_models_equal_torch_counter(config: Any) -> None:
    model = AutoModelForMaskedLM.from_config(config, attn_implementation="eager").eval()
    with torch.inference_mode():
        total = counted(lambda: model(ids(1, 13)))
    assert FlopModel.from_model(model).sequence_forward(13, 13) == total


@pytest.mark.parametrize("device", ["cpu", "meta"])
@pytest.mark.parametrize("tied", [True, False])
def test_head_is_twice_hidden_times_vocabulary(tied: bool, device: str) -> None:
    with torch.device(device):
        model = AutoModelForCausalLM.from_config(tiny_gpt2(tied))
    flops = FlopModel.from_model(model)
    assert flops.head_per_token == 2 * 24 * VOCABULARY
    assert flops.body_per_token == 2 * 2 * 12 * 24**2
    assert flops.attention_per_token_per_context == 4 * 2 * 24
    assert json.loads(json.dumps(dataclasses.asdict(flops))) == dataclasses.asdict(flops)


def test_published_sizes() -> None:
    smollm2 = LlamaConfig(
        vocab_size=49152,
        hidden_size=576,
        intermediate_size=1536,
        num_hidden_layers=30,
        num_attention_heads=9,
        num_key_value_heads=3,
        tie_word_embeddings=True,
    )
    with torch.device("meta"):
        small = AutoModelForCausalLM.from_config(smollm2)
        gpt2 = AutoModelForCausalLM.from_config(GPT2Config())
    assert count_parameters(small) == (134_515_008, 106_203_456)
    assert count_parameters(gpt2) == (124_439_808, 85_056_000)
    assert model_size_mb(gpt2) == pytest.approx(474.70, abs=0.005)
    assert model_size_mb(gpt2.to(torch.bfloat16)) == pytest.approx(474.70 / 2, abs=0.005)


def test_untied_head_adds_to_the_total_only() -> None:
    tied, untied = (AutoModelForCausalLM.from_config(tiny_gpt2(flag)) for flag in (True, False))
    total, body = count_parameters(tied)
    assert count_parameters(untied) == (total + 24 * VOCABULARY, body)
    assert body == total - 24 * (VOCABULARY + 64)


def test_no_new_tokens_cost_nothing_and_bad_counts_are_refused() -> None:
    flops = FlopModel(10, 3, 7)
    assert flops.generation(4, 0) == 0
    assert flops.generation(4, 2) == 10 * 5 + 3 * (16 + 5) + 7 * 2
    assert flops.per_generated_token() == 10 + 3 * 128 + 7
    with pytest.raises(ValueError, match="prompt"):
        flops.generation(0, 2)


def test_other_architectures_are_refused() -> None:
    with torch.device("meta"):
        experts = AutoModelForCausalLM.from_config(MixtralConfig(**SMALL, num_local_experts=2))
        t5 = T5ForConditionalGeneration(
            T5Config(vocab_size=VOCABULARY, d_model=24, d_ff=40, num_layers=1, num_heads=2, d_kv=12)
        )
        headless = AutoModelForCausalLM.from_config(tiny_gpt2(True)).base_model
    for model, reason in [(experts, "experts"), (t5, "encoder-decoder"), (headless, "no output")]:
        with pytest.raises(UserError, match=reason):
            FlopModel.from_model(model)


def test_import_is_light() -> None:
    scripts = Path(__file__).parents[2] / "scripts"
    code = "import sys, distill.models.flops; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=scripts, check=True)
