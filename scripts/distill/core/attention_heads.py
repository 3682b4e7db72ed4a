"""Numbers of attention heads that no model can have, by the entries of its config."""

from collections.abc import Mapping
from typing import Any

_WIDTHS = ("hidden_size", "n_embd", "d_model", "dim")
_HEADS = ("num_attention_heads", "n_head", "num_heads", "n_heads")
_GROUPS = "num_key_value_heads"
_WHOLE = {
    "arcee", "bert", "bloom", "camembert", "codegen", "distilbert", "electra", "gpt2",
    "gpt_bigcode", "gpt_neox", "gptj", "llama", "mpt", "opt", "persimmon", "roberta", "stablelm",
    "xglm", "xlm-roberta",
}  # fmt: skip
"""Architectures whose heads divide their width, unless the config states head_dim. Others round the
width of a head down."""


def heads_fault(kind: object, entries: Mapping[str, Any], base: Mapping[str, Any]) -> str | None:
    """Why a model cannot have its numbers of heads, with a remedy; None if nothing speaks against.

    Args:
        kind: Its model_type.
        entries: Entries of its config that a study sets.
        base: Other entries of its config, as far as they are known.
    """
    width, heads, groups = (_entry(entries, base, keys) for keys in (_WIDTHS, _HEADS, (_GROUPS,)))
    if not heads:
        return None
    if kind in _WHOLE and width and width % heads and "head_dim" not in entries:
        return (
            f"hidden_size ({width}) is not a multiple of num_attention_heads ({heads}); correct "
            "one of them"
        )
    # With latent attention (DeepSeek), keys and values have as many heads as queries.
    grouped = kind != "gpt_bigcode" and "kv_lora_rank" not in {*entries, *base}
    if grouped and groups and heads % groups:
        whose = "" if _GROUPS in entries else ", the source's"
        return (
            f"num_attention_heads ({heads}) is not a multiple of {_GROUPS} ({groups}{whose}); set "
            f"{_GROUPS} too, such as to {heads}"
        )
    return None


def _entry(
    entries: Mapping[str, Any], base: Mapping[str, Any], keys: tuple[str, ...]
) -> int | None:
    """The first positive whole number under some keys."""
    for place in (entries, base):
        for key in keys:
            value = place.get(key)
            if isinstance(value, int) and value > 0:
                return value
    return None
