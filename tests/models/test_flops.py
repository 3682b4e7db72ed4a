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
    Qwen2Config,
    Qwen3Config,
    T5Config,
    T5ForConditionalGeneration,
)

from distill.core.errors import UserError
from distill.models.flops import FlopModel, active_parameters, count_parameters, model_size_mb
from zoo import zoo_model

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


@pytest.mark.slow
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


SHAPES = (
    "opt", "phi3", "gemma2", "gemma3_text", "gemma4_text", "minicpm3", "mixtral", "qwen2_moe",
    "gpt_oss", "jetmoe", "glm4_moe", "deepseek_v2", "deepseek_v3", "hunyuan_v1_moe", "diffllama",
)  # fmt: skip
COUNTED = ("gpt_neo", "gptj", "bloom", "mpt", "falcon", "falcon-alibi", "xglm", "rwkv")
RECURRENT = {"mamba": 8, "recurrent_gemma": 8, "lfm2": 8, "jamba": 8, "mamba2": 16, "bamba": 16,
             "minimax": 16, "qwen3_next": 64}  # fmt: skip
"""Families with recurrent layers, and the tokens of a chunk of them (8 where there are none)."""


def forward_flops(model: Any, length: int) -> int:
    """By torch's counter, which sees each expert's own products alone."""
    if model._can_set_experts_implementation():
        model.set_experts_implementation("eager")
    with torch.no_grad():
        return counted(lambda: model(ids(1, length), use_cache=False))


@pytest.mark.slow
@pytest.mark.parametrize("name", [*SHAPES, *COUNTED])
def test_a_family_equals_torch_counter(name: str) -> None:
    model = zoo_model(name)
    flops = FlopModel.from_model(model)
    assert flops.counted == (name in COUNTED)
    for length in (3, 20):
        assert flops.sequence_forward(length, length) == forward_flops(model, length)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "chunk"), RECURRENT.items())
def test_recurrent_layers_equal_torch_counter_but_for_a_constant(name: str, chunk: int) -> None:
    """The constant is what a convolution computes beyond the sequence, whatever its length."""
    model = zoo_model(name)
    flops = FlopModel.from_model(model)
    assert flops.counted
    totals = {length: forward_flops(model, length) for length in (chunk, 2 * chunk, 4 * chunk)}
    beyond = {total - flops.sequence_forward(n, n) for n, total in totals.items()}
    assert max(beyond) - min(beyond) <= 4 * chunk  # constants are whole numbers
    assert 0 <= min(beyond) < 0.25 * flops.per_generated_token(0)


def test_counting_leaves_a_model_as_it_is() -> None:
    model = zoo_model("mixtral", attention="sdpa").train()
    torch.manual_seed(1)
    flops, noise = FlopModel.from_model(model), torch.rand(1)
    torch.manual_seed(1)
    assert torch.equal(noise, torch.rand(1))
    assert model.training
    assert model.config._attn_implementation == "sdpa"
    with torch.device("meta"):
        empty = AutoModelForCausalLM.from_config(model.config)
    assert FlopModel.from_model(empty) == flops


def test_experts_that_a_token_is_not_routed_to_are_not_active() -> None:
    model = zoo_model("qwen2_moe")
    total, _ = count_parameters(model)
    idle = 2 * 2 * 3 * 24 * 32  # layers x experts beyond the two chosen x matrices
    assert active_parameters(model) == total - idle
    dense = zoo_model("llama")
    assert active_parameters(dense) == count_parameters(dense)[0]


def test_no_head_and_encoder_decoders_are_refused() -> None:
    with torch.device("meta"):
        t5 = T5ForConditionalGeneration(
            T5Config(vocab_size=VOCABULARY, d_model=24, d_ff=40, num_layers=1, num_heads=2, d_kv=12)
        )
        headless = AutoModelForCausalLM.from_config(tiny_gpt2(True)).base_model
    for model, reason in [(t5, "encoder-decoder"), (headless, "no output")]:
        with pytest.raises(UserError, match=reason):
            FlopModel.from_model(model)


def test_import_is_light() -> None:
    scripts = Path(__file__).parents[2] / "scripts"
    code = "import sys, distill.models.flops; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=scripts, check=True)
