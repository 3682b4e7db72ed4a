"""Tiny random models of many families, for tests of what holds for each architecture."""

from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM

_COMMON: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 256,
    "initializer_range": 0.15,
    "bos_token_id": None,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
_GROUPED = {"num_key_value_heads": 2}
_EXPERTS = {**_GROUPED, "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 24}
_LATENT = {
    "num_key_value_heads": 4,
    "q_lora_rank": 12,
    "kv_lora_rank": 16,
    "qk_rope_head_dim": 8,
    "qk_nope_head_dim": 16,
    "v_head_dim": 12,
    "n_routed_experts": 4,
    "num_experts_per_tok": 2,
    "n_shared_experts": 1,
    "moe_intermediate_size": 24,
    "first_k_dense_replace": 1,
}
_MAMBA2 = {"mamba_d_state": 8, "mamba_n_heads": 4, "mamba_d_head": 16, "mamba_n_groups": 1}
_MAMBA2 |= {"mamba_chunk_size": 16}

FAMILIES: dict[str, dict[str, Any]] = {
    "llama": _GROUPED,
    "gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 256},
    "gpt_neo": {
        "num_layers": 2,
        "num_heads": 4,
        "attention_types": [[["global", "local"], 1]],
        "window_size": 8,
    },
    "gptj": {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 256, "rotary_dim": 4},
    "gpt_neox": {},
    "gpt_bigcode": {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 256},
    "codegen": {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 256, "rotary_dim": 4},
    "bloom": {"n_layer": 2, "n_head": 4},
    "mpt": {"d_model": 32, "n_heads": 4, "n_layers": 2, "max_seq_len": 256},
    "opt": {"ffn_dim": 64, "word_embed_proj_dim": 16},
    "falcon": {"alibi": False, "multi_query": True, "new_decoder_architecture": False},
    "falcon-alibi": {"alibi": True, "multi_query": False, "new_decoder_architecture": False},
    "xglm": {"d_model": 32, "num_layers": 2, "attention_heads": 4, "ffn_dim": 64},
    "biogpt": {},
    "phi": {},
    "phi3": {**_GROUPED, "sliding_window": 10},
    "qwen2": _GROUPED,
    "qwen3": {**_GROUPED, "head_dim": 16},
    "mistral": {**_GROUPED, "sliding_window": 10},
    "gemma2": {**_GROUPED, "head_dim": 16, "sliding_window": 10},
    "gemma3_text": {
        "num_key_value_heads": 1,
        "head_dim": 16,
        "sliding_window": 10,
        "layer_types": ["sliding_attention", "full_attention"],
    },
    "gemma3n_text": {
        **_GROUPED,
        "head_dim": 16,
        "hidden_size_per_layer_input": 8,
        "vocab_size_per_layer_input": 97,
        "layer_types": ["sliding_attention", "full_attention"],
        "num_kv_shared_layers": 0,
        "laurel_rank": 4,
        "altup_num_inputs": 2,
        "activation_sparsity_pattern": [0.0, 0.0],
        "sliding_window": 10,
    },
    "cohere": {**_GROUPED, "logit_scale": 0.3},
    "granite": {**_GROUPED, "logits_scaling": 4.0},
    "olmo2": _GROUPED,
    "stablelm": {"num_key_value_heads": 4},
    "starcoder2": _GROUPED,
    "smollm3": {**_GROUPED, "no_rope_layer_interval": 2},
    "glm4": {**_GROUPED, "head_dim": 8},
    "modernbert-decoder": {"bos_token_id": 1, "cls_token_id": 1, "sep_token_id": 2, "layer_types": ["sliding_attention", "full_attention"]},
    "minicpm3": {"num_key_value_heads": 4, "q_lora_rank": 12, "kv_lora_rank": 16, "qk_rope_head_dim": 8, "qk_nope_head_dim": 16, "v_head_dim": 12},
    "mixtral": {**_GROUPED, "num_local_experts": 4, "num_experts_per_tok": 2},
    "qwen2_moe": {**_EXPERTS, "shared_expert_intermediate_size": 40},
    "qwen3_moe": {**_EXPERTS, "head_dim": 8},
    "olmoe": {**_GROUPED, "num_experts": 4, "num_experts_per_tok": 2},
    "gpt_oss": {**_GROUPED, "head_dim": 8, "num_local_experts": 4, "num_experts_per_tok": 2, "sliding_window": 10},
    "granitemoe": {**_GROUPED, "num_local_experts": 4, "num_experts_per_tok": 2},
    "granitemoeshared": {**_GROUPED, "num_local_experts": 4, "num_experts_per_tok": 2, "shared_intermediate_size": 40},
    "phimoe": {**_GROUPED, "num_local_experts": 4, "num_experts_per_tok": 2},
    "jetmoe": {"num_key_value_heads": 2, "kv_channels": 8, "num_local_experts": 4, "num_experts_per_tok": 2},
    "ernie4_5_moe": {**_GROUPED, "moe_num_experts": 4, "moe_k": 2, "moe_intermediate_size": 24, "moe_num_shared_experts": 1, "moe_layer_start_index": 1},
    "glm4_moe": {**_GROUPED, "head_dim": 8, "n_routed_experts": 4, "num_experts_per_tok": 2, "n_shared_experts": 1, "moe_intermediate_size": 24, "first_k_dense_replace": 1},
    "llama4_text": {**_GROUPED, "head_dim": 8, "num_local_experts": 4, "num_experts_per_tok": 1, "intermediate_size_mlp": 64, "moe_layers": [1], "attention_chunk_size": 16},
    "deepseek_v2": {**_LATENT, "n_group": 1, "topk_group": 1},
    "deepseek_v3": {**_LATENT, "n_group": 2, "topk_group": 1},
    "mamba": {"state_size": 8, "conv_kernel": 4, "expand": 2},
    "mamba2": {"state_size": 8, "num_heads": 4, "head_dim": 16, "n_groups": 1, "chunk_size": 16},
    "falcon_mamba": {"state_size": 8},
    "rwkv": {"attention_hidden_size": 32},
    "xlstm": {"num_heads": 4, "num_blocks": 2, "chunk_size": 16, "embedding_dim": 32},
    "jamba": {**_GROUPED, "num_hidden_layers": 4, "attn_layer_period": 2, "attn_layer_offset": 1, "expert_layer_period": 2, "expert_layer_offset": 1, "num_experts": 4, "num_experts_per_tok": 2, "mamba_d_state": 8, "mamba_dt_rank": 4, "use_mamba_kernels": False},
    "bamba": {**_GROUPED, **_MAMBA2, "attn_layer_indices": [1]},
    "zamba": {"num_key_value_heads": 4, "num_hidden_layers": 6, "mamba_d_state": 8, "mamba_dt_rank": 4, "n_mamba_heads": 2, "attention_hidden_size": 64, "attention_head_dim": 16, "attn_layer_period": 3, "attn_layer_offset": 2, "use_mamba_kernels": False},
    "zamba2": {"num_hidden_layers": 4, "mamba_d_state": 8, "n_mamba_heads": 4, "mamba_ngroups": 1, "chunk_size": 16, "hybrid_layer_ids": [1, 3], "layers_block_type": ["mamba", "hybrid", "mamba", "hybrid"], "num_mem_blocks": 1, "adapter_rank": 8, "attention_head_dim": 16, "use_mamba_kernels": False, "num_key_value_heads": 4},
    "falcon_h1": {**_GROUPED, **_MAMBA2, "head_dim": 8, "mamba_d_ssm": 64},
    "granitemoehybrid": {**_GROUPED, **_MAMBA2, "num_local_experts": 4, "num_experts_per_tok": 2, "shared_intermediate_size": 40, "layer_types": ["mamba", "attention"]},
    "nemotron_h": {**_GROUPED, "layers_block_type": ["mamba", "attention", "mamba", "moe"], "num_hidden_layers": 4, "ssm_state_size": 8, "mamba_num_heads": 4, "mamba_head_dim": 16, "n_groups": 1, "chunk_size": 16, "head_dim": 8, "n_routed_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 24, "moe_shared_expert_intermediate_size": 24, "n_group": 1, "topk_group": 1},
    "lfm2": {**_GROUPED, "layer_types": ["conv", "full_attention"], "block_multiple_of": 8},
    "qwen3_next": {**_EXPERTS, "head_dim": 16, "shared_expert_intermediate_size": 24, "layer_types": ["linear_attention", "full_attention"], "linear_num_key_heads": 2, "linear_num_value_heads": 4, "linear_key_head_dim": 8, "linear_value_head_dim": 8},
    "recurrent_gemma": {**_GROUPED, "num_hidden_layers": 3, "lru_width": 32, "attention_window_size": 64, "block_types": ["recurrent", "recurrent", "attention"]},
    "minimax": {**_GROUPED, "head_dim": 8, "num_local_experts": 4, "num_experts_per_tok": 2, "layer_types": ["linear_attention", "full_attention"], "block_size": 16},
    "olmo_hybrid": {**_GROUPED, "layer_types": ["linear_attention", "full_attention"], "linear_num_key_heads": 2, "linear_num_value_heads": 4, "linear_key_head_dim": 8, "linear_value_head_dim": 8},
    "kimi_linear": {**_LATENT, "q_lora_rank": None, "num_local_experts": 4, "layer_types": ["linear_attention", "full_attention"], "linear_head_dim": 8, "linear_num_heads": 4},
    "openai-gpt": {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 256},
    "ctrl": {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 256, "dff": 64},
    "persimmon": {},
    "doge": {**_GROUPED},
    "diffllama": _GROUPED,
    "nanochat": _GROUPED,
    "seed_oss": {**_GROUPED, "head_dim": 8},
    "hunyuan_v1_moe": {**_GROUPED, "num_experts": 4, "moe_topk": 2, "head_dim": 8},
    "longcat_flash": {**_LATENT, "num_layers": 2, "moe_topk": 2, "zero_expert_num": 2, "ffn_hidden_size": 64, "expert_ffn_hidden_size": 24, "head_dim": 8},
    "gemma4_text": {**_GROUPED, "head_dim": 16, "hidden_size_per_layer_input": 8, "vocab_size_per_layer_input": 97, "layer_types": ["sliding_attention", "full_attention"], "sliding_window": 10, "global_head_dim": 16},
    "bert": {"is_decoder": True},
}


def zoo_model(name: str, vocabulary: int = 97, seed: int = 0, attention: str | None = "eager") -> Any:
    """A tiny random fp32 model of a family, in eval mode."""
    kind = name.removesuffix("-alibi")
    config = AutoConfig.for_model(kind, **{**_COMMON, "vocab_size": vocabulary, **FAMILIES[name]})
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(config, attn_implementation=attention)
    for part, weight in model.named_parameters():
        if weight.dim() == 1:  # biases of 0 and gains of 1 would hide mistakes
            torch.nn.init.normal_(weight, 1.0 if "norm" in part or "ln" in part else 0.0, 0.1)
    return model.float().eval()
