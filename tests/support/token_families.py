"""Tokenizers, chat templates and models in the patterns of published families, made on the spot.

Ids, control tokens and templates are laid out as in the family; vocabularies are tiny.
"""

import functools
import json
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Tokenizer, decoders, normalizers, processors
from tokenizers.models import BPE
from tokenizers.trainers import BpeTrainer
from transformers import PreTrainedTokenizerFast

import tiny

PHI = (
    "{% for m in messages %}<|{{ m['role'] }}|>\n{{ m['content'] }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)
LLAMA3 = (
    "{{ bos_token }}{% for m in messages %}<|start_header_id|>{{ m['role'] }}<|end_header_id|>\n\n"
    "{{ m['content'] | trim }}<|eot_id|>{% endfor %}"
    "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
)
GEMMA = (
    "{{ bos_token }}{% if messages[0]['role'] == 'system' %}"
    "{{ raise_exception('System role not supported') }}{% endif %}{% for m in messages %}"
    "{% set role = 'model' if m['role'] == 'assistant' else m['role'] %}"
    "{{ '<start_of_turn>' + role + '\n' + m['content'] | trim + '<end_of_turn>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)
MISTRAL = (
    "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'user' %}"
    "[INST] {{ m['content'].strip() }} [/INST]{% else %} {{ m['content'] }}{{ eos_token }}"
    "{% endif %}{% endfor %}"
)
HEADS_ONLY = (  # as GLM: a turn ends where the next one begins
    "{% for m in messages %}<|{{ m['role'] }}|>\n{{ m['content'] }}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)


def byte_level(
    *control: str, eos: str, template: str | None = None, special: bool = True, **settings: Any
) -> Any:
    """A byte-level BPE with control tokens added behind its vocabulary.

    Args:
        control: Flagged as special in the tokenizer's file, without any role.
        eos: The EOS token, one of the first three ids or of `control`.
        template: The chat template.
        special: Whether `control` is flagged so.
        settings: Of the tokenizer.
    """
    raw = Tokenizer.from_str(tiny.raw_bpe())
    raw.add_tokens([AddedToken(text, special=special, normalized=False) for text in control])
    made = PreTrainedTokenizerFast(tokenizer_object=raw, eos_token=eos, **settings)
    made.chat_template = template
    return made


@functools.cache
def _pieces(special: tuple[str, ...]) -> str:
    raw = Tokenizer(BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    raw.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    raw.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    trainer = BpeTrainer(vocab_size=200, special_tokens=list(special), show_progress=False)
    raw.train_from_iterator(tiny.SENTENCES, trainer)
    state = json.loads(raw.to_str())
    order = sorted(state["model"]["vocab"], key=state["model"]["vocab"].get)
    names = [*order[: len(special)], *(f"<0x{byte:02X}>" for byte in range(256))]
    names += order[len(special) :]
    state["model"]["vocab"] = {name: number for number, name in enumerate(names)}
    return json.dumps(state)


def sentence_pieces(template: str | None = None, adds_bos: bool = True) -> Any:
    """A SentencePiece-like BPE with byte fallback, as of Llama 2: <unk>, <s>, </s> first."""
    raw = Tokenizer.from_str(_pieces(("<unk>", "<s>", "</s>")))
    if adds_bos:
        raw.post_processor = processors.TemplateProcessing(
            single="<s> $A", special_tokens=[("<s>", 1)]
        )
    made = PreTrainedTokenizerFast(
        tokenizer_object=raw, bos_token="<s>", eos_token="</s>", unk_token="<unk>"
    )
    made.chat_template = template
    return made


def phi(named: bool = False) -> Any:
    """As Phi-3: <|end|> ends a turn, special in the tokenizer's file, in no role unless `named`."""
    control = ("<|user|>", "<|end|>", "<|assistant|>", "<|system|>")
    made = byte_level(*control, eos="<|endoftext|>", template=PHI)
    if named:
        made.add_special_tokens({"extra_special_tokens": ["<|end|>"]})
    return made


def saved(
    folder: Path,
    words: Any,
    ends: list[int] | int | None = None,
    rows: int | None = None,
    **model: Any,
) -> Path:
    """A tiny model with a tokenizer.

    Args:
        folder: Where to.
        words: The tokenizer.
        ends: eos_token_id of its generation config; None leaves that to its config.
        rows: Ids of its embeddings; as many as the tokenizer's by default.
        model: Of `tiny.model`.
    """
    made = tiny.model("llama", rows or len(words), **model)
    if ends is not None:
        made.generation_config.eos_token_id = ends
        made.generation_config._from_model_config = False
    return tiny.save(folder, made, words)
