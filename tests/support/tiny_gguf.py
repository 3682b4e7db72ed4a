"""A tiny Llama and its tokenizer as a GGUF file in fp32, as llama.cpp reads it."""

import json
from pathlib import Path
from typing import Any

import gguf
import torch

NORMAL, CONTROL = 1, 3  # kinds of tokens
_NAMES = {
    "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down", "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}  # fmt: skip


def _interleaved(weight: torch.Tensor, heads: int) -> torch.Tensor:
    """Rows of a query or key projection in the order of llama.cpp's rotary embedding."""
    halves = weight.view(heads, 2, weight.shape[0] // heads // 2, weight.shape[1])
    return halves.transpose(1, 2).reshape(weight.shape)


def _tensors(model: Any) -> dict[str, torch.Tensor]:
    heads = {"attn_q": model.config.num_attention_heads, "attn_k": model.config.num_key_value_heads}
    found = {
        "token_embd.weight": model.model.embed_tokens.weight,
        "output_norm.weight": model.model.norm.weight,
        "output.weight": model.lm_head.weight,
    }
    for number, layer in enumerate(model.model.layers):
        for theirs, ours in _NAMES.items():
            weight = layer.get_submodule(theirs).weight
            if ours in heads:
                weight = _interleaved(weight, heads[ours])
            found[f"blk.{number}.{ours}.weight"] = weight
    return {name: weight.detach().float() for name, weight in found.items()}


def write_gguf(path: Path, model: Any, words: Any) -> Path:
    """Write a Llama of `tiny.model` with a tokenizer of `tiny.tokenizer`."""
    config, state = model.config, json.loads(words.backend_tokenizer.to_str())
    out = gguf.GGUFWriter(path, "llama")
    out.add_context_length(config.max_position_embeddings)
    out.add_embedding_length(config.hidden_size)
    out.add_block_count(config.num_hidden_layers)
    out.add_feed_forward_length(config.intermediate_size)
    out.add_head_count(config.num_attention_heads)
    out.add_head_count_kv(config.num_key_value_heads)
    out.add_rope_dimension_count(config.hidden_size // config.num_attention_heads)
    out.add_rope_freq_base(config.rope_parameters["rope_theta"])
    out.add_layer_norm_rms_eps(config.rms_norm_eps)
    out.add_vocab_size(config.vocab_size)
    tokens = words.convert_ids_to_tokens(range(len(words)))
    special = {token["content"] for token in state["added_tokens"]}
    out.add_tokenizer_model("gpt2")
    out.add_tokenizer_pre("gpt-2")
    out.add_token_list(tokens)
    out.add_token_types([CONTROL if token in special else NORMAL for token in tokens])
    out.add_token_merges([" ".join(pair) for pair in state["model"]["merges"]])
    out.add_eos_token_id(words.eos_token_id)
    out.add_add_bos_token(False)
    out.add_chat_template(words.chat_template)
    for name, weight in _tensors(model).items():
        out.add_tensor(name, weight.numpy())
    out.write_header_to_file()
    out.write_kv_data_to_file()
    out.write_tensors_to_file()
    out.close()
    return path
