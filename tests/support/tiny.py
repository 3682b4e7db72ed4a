"""Tiny random models, tokenizers, text and configs, made on the spot."""

import copy
import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE
from tokenizers.trainers import BpeTrainer
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

from distill.contracts.schemas import TEXT_SCHEMA
from distill.core.checksums import tokenizer_sha256
from distill.core.parquet import write_rows

SENTENCES = (
    "The river runs past the old mill and into the sea.",
    "Write a short poem about the weather in spring.",
    "She counted seven boats, two gulls and one lighthouse.",
    "How do I bake bread without an oven?",
    "List three reasons why the sky is blue.",
)
CHATML = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")


@functools.cache
def _bpe(vocabulary: int, ascii_only: bool) -> str:
    letters = [*map(chr, range(33, 127)), "Ġ", "Ċ"]  # the last two stand for space and newline
    raw = Tokenizer(BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    raw.train_from_iterator(
        SENTENCES,
        BpeTrainer(
            vocab_size=vocabulary,
            special_tokens=list(SPECIAL),
            initial_alphabet=letters if ascii_only else pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    return str(raw.to_str())


def raw_bpe(vocabulary: int = 300, ascii_only: bool = False) -> str:
    """A byte-level BPE as the library's JSON, with `SPECIAL` as its first ids."""
    return _bpe(vocabulary, ascii_only)


def tokenizer(
    chat: bool = True, vocabulary: int = 300, ascii_only: bool = False, **settings: Any
) -> Any:
    """A byte-level BPE whose pad token is its EOS."""
    eos = "<|im_end|>" if chat else "<|endoftext|>"
    made = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(_bpe(vocabulary, ascii_only)),
        eos_token=eos,
        pad_token=eos,
        **{"extra_special_tokens": ["<|im_start|>"]} if chat else {},
        **settings,
    )
    if chat:
        made.chat_template = CHATML
    return made


ARCHITECTURES: dict[str, dict[str, Any]] = {
    "llama": {"num_key_value_heads": 2, "tie_word_embeddings": False},
    "llama-tied": {"num_key_value_heads": 2, "tie_word_embeddings": True},
    "gpt2": {},
    "qwen2": {"num_key_value_heads": 2},
    "gemma2": {
        "num_key_value_heads": 2,
        "head_dim": 8,
        "query_pre_attn_scalar": 8,
        "attn_logit_softcapping": 2.0,
        "final_logit_softcapping": 3.0,
        "sliding_window": 64,
    },
}


def config(kind: str, vocabulary: int = 300, **settings: Any) -> Any:
    """A config of one of `ARCHITECTURES` or any other model_type, of width 32 and 3 layers."""
    model_type = kind.split("-")[0]
    small: dict[str, Any] = {"vocab_size": vocabulary, "initializer_range": 0.3}
    small |= {"bos_token_id": None, "eos_token_id": 2, "pad_token_id": None}
    if model_type == "gpt2":
        small |= {"n_embd": 32, "n_layer": 3, "n_head": 4, "n_positions": 256}
        small |= {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
    else:
        small |= {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 3}
        small |= {"num_attention_heads": 4, "max_position_embeddings": 256}
    merged = {**small, **ARCHITECTURES.get(kind, {}), **settings}
    return transformers.AutoConfig.for_model(model_type, **merged)


def model(
    kind: str, vocabulary: int = 300, seed: int = 0, attention: str = "eager", **settings: Any
) -> Any:
    """A random fp32 model in eval mode."""
    torch.manual_seed(seed)
    made = AutoModelForCausalLM.from_config(
        config(kind, vocabulary, **settings), attn_implementation=attention
    )
    for name, weight in made.named_parameters():
        if weight.dim() == 1:  # biases of 0 and gains of 1 would hide mistakes
            torch.nn.init.normal_(weight, 1.0 if "norm" in name or "ln_" in name else 0.0, 0.1)
    return made.float().eval()


def save(folder: Path, made: Any, words: Any) -> Path:
    """Save a model and its tokenizer."""
    made.save_pretrained(folder)
    words.save_pretrained(folder)
    return folder


def text_row(
    words: Any, number: int, prompt: str, response: str, finished: bool = True
) -> dict[str, Any]:
    """A row of teacher text whose prompt is its plain tokens."""
    ids = words(response, add_special_tokens=False).input_ids
    return {
        "id": f"train-{number:07d}",
        "row": number,
        "prompt": prompt,
        "context": None,
        "response": response,
        "reference": None,
        "system": None,
        "turns": None,
        "prompt_ids": words(prompt, add_special_tokens=False).input_ids,
        "response_ids": [*ids, words.eos_token_id] if finished else ids,
        "finish_reason": "stop" if finished else "length",
        "teacher_flops": 1.0,
        "teacher_seconds": 1.0,
        "teacher_kwh": 1e-6,
        "teacher_kwh_estimated": 1e-6,
    }


def uneven_rows(words: Any, rows: int) -> list[dict[str, Any]]:
    """Text rows whose answers have very different lengths."""
    return [
        text_row(
            words,
            number,
            f"{number}: {SENTENCES[number % 5][:9]}",
            " ".join(SENTENCES)[: 2 + 90 * (number % 4 == 0) + 3 * number],
        )
        for number in range(rows)
    ]


def shard(path: Path, words: Any, rows: Sequence[dict[str, Any]]) -> Path:
    """Write a training set."""
    write_rows(path, rows, TEXT_SCHEMA, spec={}, tokenizer_sha256=tokenizer_sha256(words))
    return path


def study() -> dict[str, Any]:
    """A valid config."""
    return copy.deepcopy(
        {
            "study": "demo",
            "sources": {
                "base": {"path": "models/base"},
                "prose": {"path": "data/prose.csv", "fields": {"text": "text"}},
                "faq": {
                    "hub": "owner/faq",
                    "revision": "0" * 40,
                    "rows": 500,
                    "fields": {"prompt": "question", "response": "answer"},
                },
            },
            "prompts": {"teacher": "big", "pool": 64, "test": 20, "validation": 8, "part_size": 16},
            "teachers": {"big": {"source": "base"}, "calm": {"source": "base", "temperature": 0.7}},
            "students": {
                "small": {"init": "cut", "source": "base", "layers": 2},
                "fresh": {
                    "init": "random",
                    "source": "base",
                    "config": {"num_hidden_layers": 2, "rope_parameters": {"a": 1, "b": 2}},
                },
            },
            "methods": {"sft": {"ce": 1.0}},
            "evaluate": {"reference": {"source": "prose"}},
            "runs": [
                {
                    "students": ["small", "fresh"],
                    "teachers": ["big"],
                    "methods": ["sft"],
                    "samples": [16, 48],
                    "draws": [0, 1],
                }
            ],
        }
    )
