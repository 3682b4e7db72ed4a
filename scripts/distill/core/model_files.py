"""What the files of a model directory say without the libraries that open it: JSON and headers."""

import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from distill.core.display import listed
from distill.core.errors import UserError

Config = Mapping[str, Any]
"""Entries of a config.json."""
DEPTH_KEYS = ("num_hidden_layers", "n_layer", "num_layers", "n_layers")
"""Names that architectures give to their number of layers."""
_CONTEXT_KEYS = ("max_position_embeddings", "n_positions")
_PADDED_POSITIONS = {
    "camembert", "data2vec-text", "ibert", "longformer", "luke", "mpnet", "roberta",
    "roberta-prelayernorm", "xlm-roberta", "xlm-roberta-xl", "xmod",
}  # fmt: skip
"""Architectures that count positions from pad_token_id + 1, as fairseq did."""
MASKED = ("ForMaskedLM", "ForPreTraining")
"""Ends of the names of classes of masked language models."""
_CAUSAL = ("ForCausalLM", "LMHeadModel", "ForConditionalGeneration")
_ENCODERS = {
    "bert", "bert-generation", "big_bird", "camembert", "data2vec-text", "electra", "ernie",
    "megatron-bert", "nezha", "qdqbert", "rembert", "roberta", "roberta-prelayernorm", "roc_bert",
    "roformer", "xlm-roberta", "xlm-roberta-xl", "xmod",
}  # fmt: skip
"""Architectures whose causal class attends in both directions unless is_decoder is set."""
_TOKENIZER_FILES = ("tokenizer*", "vocab*", "*.model", "spiece*", "*.tiktoken", "tekken.json")
ADAPTER = "adapter_config.json"
"""File of an adapter, whose weights change another model's."""
_PATTERNS = ("*.json", "*.safetensors", "*.txt", "*.model", "*.jinja")
NO_MODEL_TYPE = (
    "has a config.json without model_type, so its architecture is unknown; add model_type, such as "
    "llama, or get the model again"
)
"""What is wrong with such a model, as the end of a sentence."""
_MOST_HEADER = 100_000_000
"""Bytes of the largest header that the safetensors library accepts."""


def gguf_file(path: Path) -> Path | None:
    """The GGUF file at a local path: itself, or that of a folder without safetensors weights.

    Raises:
        UserError: The folder holds several.
    """
    if path.is_file():
        return path
    files = sorted(path.glob("*.gguf"))
    if not files or any(path.glob("*.safetensors")):
        return None
    if len(files) > 1:
        names = listed([file.name for file in files])
        raise UserError(f"{path} holds several GGUF files ({names}); name one of them as path")
    return files[0]


def base_model(adapter: Path) -> Path | None:
    """Local folder of the base model that an adapter names; None if it names another place."""
    named = read_object(adapter / ADAPTER).get("base_model_name_or_path")
    base = Path(str(named)) if named else None
    return base if base is not None and (base / "config.json").is_file() else None


def local_files(path: Path) -> list[Path]:
    """Files that the model at a local path consists of, those of an adapter's base included."""
    if (gguf := gguf_file(path)) is not None:
        return [gguf]
    files = sorted(file for pattern in _PATTERNS for file in path.glob(pattern))
    base = base_model(path) if path / ADAPTER in files else None
    return files + (local_files(base) if base is not None and base != path else [])


def check_local_model(path: Path) -> None:
    """Check that a local path holds a model or an adapter, by the names of its files.

    Raises:
        UserError: It holds neither.
    """
    if path.is_file() and path.suffix != ".gguf":
        raise UserError(f"{path} is not a model: name its folder, or a .gguf file")
    if gguf_file(path) or any((path / name).is_file() for name in ("config.json", ADAPTER)):
        return
    inside = [file.parent for file in path.glob("*/config.json")]
    if inside:
        last = max(inside, key=lambda folder: (folder.stat().st_mtime, folder.name))
        raise UserError(
            f"{path} is not a model directory: it has no config.json, but {last.name} in it does; "
            f"set path to {last}"
        )
    raise UserError(f"{path} is not a model directory: it has no config.json")


def read_object(path: Path) -> dict[str, Any]:
    """A JSON object; empty if there is no such file.

    Raises:
        UserError: The file is not a JSON object.
    """
    try:
        loaded = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):  # the path of a model may be a GGUF file
        return {}
    except (OSError, ValueError) as error:
        raise UserError(f"{path} is not readable JSON ({error}); get the model again") from None
    if not isinstance(loaded, dict):
        raise UserError(f"{path} does not hold a JSON object; get the model again")
    return loaded


def depth_of(config: Config) -> int | None:
    """Number of layers of a model; None if its config does not say."""
    return _number(config, DEPTH_KEYS)


def context_of(config: Config) -> int | None:
    """Most tokens that a model reads; None if its config does not say.

    Models such as RoBERTa leave the positions up to that of padding unused: with 514 positions and
    padding 1 they read 512 tokens.
    """
    positions = _number(config, _CONTEXT_KEYS)
    return None if positions is None else positions - unused_positions(config)


def unused_positions(config: Config) -> int:
    """Position embeddings of a model that no token of a text has."""
    if config.get("model_type") not in _PADDED_POSITIONS:
        return 0
    padding = config.get("pad_token_id", 1)
    return (padding if isinstance(padding, int) else 1) + 1


def _number(config: Config, keys: tuple[str, ...]) -> int | None:
    """The first whole number under some keys, also in the text part of a multimodal model."""
    text = config.get("text_config")
    for place in (config, text if isinstance(text, dict) else {}):
        for key in keys:
            if isinstance(place.get(key), int):
                return int(place[key])
    return None


def has_tokenizer(folder: Path) -> bool:
    """Whether a model directory holds a tokenizer."""
    return any(next(folder.glob(pattern), None) for pattern in _TOKENIZER_FILES)


def has_chat_template(folder: Path) -> bool:
    """Whether the tokenizer of a model directory has a chat template."""
    return chat_template(folder) is not None


def chat_template(folder: Path) -> str | None:
    """The chat template that a tokenizer uses by default; None without one."""
    if (file := folder / "chat_template.jinja").is_file():
        return file.read_text(encoding="utf-8")
    for name in ("chat_template.json", "tokenizer_config.json"):
        stated = read_object(folder / name).get("chat_template")
        if isinstance(stated, list):  # of names and templates
            named = {entry.get("name"): entry.get("template") for entry in stated}
            stated = named.get("default")
        if isinstance(stated, str) and stated:
            return stated
    return None


def embedding_rows(config: Config) -> int | None:
    """Ids that a model's embeddings hold; None if its config does not say.

    The number beside the text part of a multimodal model may be an older one.
    """
    text = config.get("text_config")
    keys = ("vocab_size",)
    return (_number(text, keys) if isinstance(text, dict) else None) or _number(config, keys)


def fills_masks(config: Config) -> bool | None:
    """Whether a model is a masked language model rather than a causal one, by its class; None if
    the class is of neither kind, or unknown."""
    names = [str(name) for name in config.get("architectures") or ()]
    if any(name.endswith(MASKED) for name in names):
        return True
    return False if any(name.endswith(_CAUSAL) for name in names) else None


def sees_later_tokens(config: Config) -> bool:
    """Whether a causal class reads a text in both directions, so that it sees what it predicts."""
    text = config.get("text_config")
    if isinstance(text, dict) and sees_later_tokens(text):
        return True
    kind = config.get("model_type")
    return (
        (kind in _ENCODERS and not config.get("is_decoder"))
        or (kind == "xlm" and not config.get("causal"))
        or kind == "cpmant"
        or config.get("use_bidirectional_attention") in (True, "all")
    )


def later_tokens_fault(kind: object) -> str:
    """What is wrong with such a model, as the end of a sentence."""
    return (
        f"is a {kind} model that attends to later tokens, so it sees the tokens that it is to "
        "predict; name a causal model, or set is_decoder: true in its config if it is a decoder"
    )


def encoder_decoder_fault(kind: str) -> str:
    """Why an encoder-decoder is not read, as the end of a sentence."""
    return (
        f"is an encoder-decoder ({kind}), which has no distribution of a next token without its "
        "encoder's input; name a decoder or a masked model"
    )


def weights_fault(folder: Path) -> str | None:
    """Why the library finds no weights in a model directory, as the end of a sentence; None if it
    finds some."""
    names = sorted(file.name for file in folder.glob("*.safetensors"))
    if not names:
        return (
            "has no .safetensors weights; other formats can carry code and are not read; convert "
            "it with save_pretrained first"
        )
    if any((folder / f"model.safetensors{end}").is_file() for end in ("", ".index.json")):
        return None
    return (
        f"has neither model.safetensors nor its index, but {listed(names)}, which the library does "
        "not look for; rename the weights if they are in the library's format, or convert them "
        "with save_pretrained"
    )


def weight_indexes(folder: Path) -> list[Path]:
    """Indexes of a model's weights; without one that an earlier save left beside a whole file,
    which the library prefers."""
    end = ".index.json"
    found = sorted(folder.glob(f"*.safetensors{end}"))
    return [one for one in found if not one.with_name(one.name.removesuffix(end)).is_file()]


def missing_weights(folder: Path) -> tuple[str, list[str]] | None:
    """The index of a model's weights and the missing files that it names; None if all exist."""
    for index in weight_indexes(folder):
        shards = read_object(index).get("weight_map")
        files = sorted({str(name) for name in shards.values()} if isinstance(shards, dict) else ())
        if missing := [name for name in files if not (folder / name).is_file()]:
            return index.name, missing
    return None


def weight_shapes(folder: Path) -> dict[str, list[int]]:
    """Shape of each tensor of a model's safetensors files, by name; their headers suffice.

    Raises:
        UserError: A file is not a safetensors file.
    """
    shapes: dict[str, list[int]] = {}
    for file in sorted(folder.glob("*.safetensors")):
        try:
            with file.open("rb") as stream:
                (size,) = struct.unpack("<Q", stream.read(8))
                header = json.loads(stream.read(size)) if size <= _MOST_HEADER else None
        except (OSError, ValueError, struct.error):
            header = None
        if not isinstance(header, dict):
            raise UserError(f"{file} is not a safetensors file; get the model again")
        shapes |= {
            name: list(entry["shape"])
            for name, entry in header.items()
            if name != "__metadata__" and isinstance(entry, dict) and "shape" in entry
        }
    return shapes
