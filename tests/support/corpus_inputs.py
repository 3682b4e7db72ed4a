"""Make the files that studies/miniature/bert_wikitext.yaml names: a tiny BERT, lines of text."""

import functools
import json
import random
from collections import Counter
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, normalizers, pre_tokenizers
from tokenizers.models import WordPiece
from transformers import AutoModelForMaskedLM, PreTrainedTokenizerFast

import tiny

CONFIG = "studies/miniature/bert_wikitext.yaml"
BERT_SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
BEGINS = "^ = [^=].* = $"

_PLACES = ("mill", "harbour", "castle", "village", "bridge", "forest", "market", "library")
_NAMES = ("Ada", "Bram", "Clara", "Derek", "Edith", "Frans", "Greta", "Henk")
_DEEDS = ("built", "painted", "visited", "repaired", "described", "sold", "guarded", "left")
_TIMES = ("in spring", "after the war", "at night", "in 1850", "every winter", "as a child")


def article(number: int) -> list[str]:
    """Lines of one article as WikiText writes them: a title, blank lines, headings and prose."""
    dice = random.Random(number)
    place, name = dice.choice(_PLACES), dice.choice(_NAMES)
    title = f"The {place} of {name} {number}"
    lines = ["", f" = {title} = ", "", ""]
    for heading in ("History", "Today"):
        lines += [f" = = {heading} = = ", ""]
        for _ in range(dice.randint(2, 4)):
            deeds = [
                f"{dice.choice(_NAMES)} {dice.choice(_DEEDS)} the {place} {dice.choice(_TIMES)} ."
                for _ in range(dice.randint(3, 6))
            ]
            lines.append(f" {' '.join(deeds)} ")
        lines.append("")
    return lines


def articles(count: int, first: int = 0) -> list[str]:
    """Lines of several articles."""
    return [line for number in range(first, first + count) for line in article(number)]


@functools.cache
def _wordpiece(vocabulary: int) -> str:
    """Letters, then the commonest words; in a fixed order, as training would not be."""
    raw = Tokenizer(WordPiece(unk_token="[UNK]"))
    raw.normalizer = normalizers.BertNormalizer(lowercase=True)
    raw.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    raw.decoder = decoders.WordPiece()
    counts: Counter[str] = Counter()
    for text in (*articles(40), *tiny.SENTENCES):
        given = raw.normalizer.normalize_str(text)
        counts.update(word for word, _ in raw.pre_tokenizer.pre_tokenize_str(given))
    letters = sorted({letter for word in counts for letter in word})
    pieces = [*BERT_SPECIAL, *letters, *(f"##{letter}" for letter in letters)]
    words = sorted((-count, word) for word, count in counts.items() if len(word) > 1)
    pieces += [word for _, word in words][: vocabulary - len(pieces)]
    pieces += [f"[unused{number}]" for number in range(vocabulary - len(pieces))]
    raw.model = WordPiece({piece: number for number, piece in enumerate(pieces)}, unk_token="[UNK]")
    return str(raw.to_str())


def wordpiece(vocabulary: int = 300) -> Any:
    """A tokenizer like BERT's: cls, sep and mask tokens, and no EOS."""
    pad, unknown, cls, sep, mask = BERT_SPECIAL
    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(_wordpiece(vocabulary)), pad_token=pad,
        unk_token=unknown, cls_token=cls, sep_token=sep, mask_token=mask,
    )  # fmt: skip


def masked_model(kind: str = "bert", vocabulary: int = 300, seed: int = 0, **settings: Any) -> Any:
    """A random masked model in eval mode."""
    torch.manual_seed(seed)
    made = AutoModelForMaskedLM.from_config(tiny.config(kind, vocabulary, **settings))
    for name, weight in made.named_parameters():
        if weight.dim() == 1:  # biases of 0 and gains of 1 would hide mistakes
            torch.nn.init.normal_(weight, 1.0 if "norm" in name.lower() else 0.0, 0.1)
    return made.float().eval()


def write_lines(path: Path, lines: list[str]) -> None:
    """A file of JSON lines with a text each."""
    path.parent.mkdir(exist_ok=True)
    path.write_text("\n".join(json.dumps({"text": line}) for line in lines) + "\n")


def make_inputs(folder: Path, count: int = 120) -> None:
    """The model and data that the miniature's config names, below `folder`."""
    words = wordpiece()
    config: dict[str, Any] = {"hidden_size": 16, "num_hidden_layers": 2}
    config |= {"num_attention_heads": 2}
    config |= {"intermediate_size": 32, "max_position_embeddings": 64, "initializer_range": 0.02}
    torch.manual_seed(0)
    model = AutoModelForMaskedLM.from_config(tiny.config("bert", len(words), **config))
    tiny.save(folder / "models" / "bert", model, words)
    write_lines(folder / "data" / "wikitext.jsonl", articles(count))
    write_lines(folder / "data" / "wikitext-test.jsonl", articles(12, first=count))
