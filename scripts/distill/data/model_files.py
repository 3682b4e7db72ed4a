"""Check an external model directory: nothing in it may need, load or name code.

The libraries do not run code either (no remote code, safetensors only); this check reports it
before anything is opened, and also finds settings that would load code in another way.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from distill.core.errors import UserError
from distill.core.model_files import (
    NO_MODEL_TYPE,
    encoder_decoder_fault,
    weight_indexes,
    weights_fault,
)
from distill.runtime.out_of_memory import is_out_of_memory


def check_model_files(folder: str | Path, name: str) -> None:
    """Check the files of a model that was downloaded, linked or converted.

    Args:
        folder: The model's files, config.json among them.
        name: The model's, for errors.

    Raises:
        UserError: It needs custom code, names a kernel to be downloaded, or
            its weights are not safetensors.
    """
    where = Path(folder)
    _check_weights(where, name)
    settings = _read(where / "config.json")
    if "model_type" not in settings:
        raise UserError(f"the model {name} {NO_MODEL_TYPE}")
    for key, value in _entries(settings):
        if key.endswith(("attn_implementation", "experts_implementation")) and "/" in str(value):
            raise UserError(
                f"the config.json of the model {name} asks for a kernel of the hub ({key}: "
                f"{value!r}), which is code and is not run; remove that entry"
            )
    _check_code(where, name, settings)


@contextmanager
def reading_model(name: str) -> Iterator[None]:
    """In the block, what the library says of a model that it cannot open is one sentence.

    Raises:
        UserError: It cannot open the model.
    """
    from huggingface_hub.errors import StrictDataclassError

    unopened = (
        ValueError, OSError, KeyError, TypeError, AttributeError, RuntimeError, ImportError,
        StrictDataclassError,
    )  # fmt: skip
    try:
        yield
    except UserError:
        raise
    except unopened as error:
        # A job reports these itself; the library's own OSError has no number.
        if is_out_of_memory(error) or getattr(error, "errno", None) is not None:
            raise
        reason = " ".join(str(error).split())[:300]
        raise UserError(
            f"the model {name} cannot be opened as a language model ({reason}); correct its "
            "config.json, or name a model whose architecture this version of transformers has"
        ) from None


def check_weights(folder: str | Path, name: str) -> None:
    """Check that a model is no encoder-decoder, and that its weights are those that it needs.

    Raises:
        UserError: They are not.
    """
    from transformers import AutoConfig

    from distill.core.checksums import SAFE
    from distill.models import weights

    config = AutoConfig.from_pretrained(folder, **SAFE)
    if getattr(config, "is_encoder_decoder", False):
        raise UserError(f"the model {name} {encoder_decoder_fault(config.model_type)}")
    weights.check_weights(folder, name)


def _read(file: Path) -> dict[str, Any]:
    """A model's JSON file; empty where there is none."""
    if not file.is_file():
        return {}
    try:
        loaded = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{file} is not readable JSON ({error}); get the model again") from None
    if not isinstance(loaded, dict):
        raise UserError(f"{file} does not hold a JSON object; get the model again")
    return loaded


def _entries(settings: Any) -> Iterator[tuple[str, Any]]:
    """All keys and values, those of inner objects too."""
    if isinstance(settings, dict):
        for key, value in settings.items():
            yield str(key), value
            yield from _entries(value)


def _check_weights(folder: Path, name: str) -> None:
    """Check that weights are safetensors files, and that an index names no other."""
    files = sorted(folder.glob("*.safetensors"))
    if fault := weights_fault(folder):
        raise UserError(f"the model {name} {fault}")
    for file in files:
        try:
            with safe_open(file, "np"):
                pass
        except (SafetensorError, OSError, ValueError) as error:
            raise UserError(
                f"{file.name} of the model {name} is not a safetensors file ({error}); get it "
                "again, or convert the model with save_pretrained"
            ) from None
    names, used = {file.name for file in files}, weight_indexes(folder)
    for index in sorted(folder.glob("*.safetensors.index.json")):
        shards = _read(index).get("weight_map", {})
        named = set(map(str, shards.values())) if isinstance(shards, dict) else {"nothing"}
        strange = {name for name in named if "/" in name or not name.endswith(".safetensors")}
        if strange or (index in used and named - names):
            raise UserError(
                f"{index.name} of the model {name} names files that are not safetensors files "
                "beside it; get the model again"
            )


def _check_code(folder: Path, name: str, settings: dict[str, Any]) -> None:
    """Check that a model or tokenizer with custom code can be opened without it."""
    tokenizer_config = _read(folder / "tokenizer_config.json")
    if "auto_map" not in settings and "auto_map" not in tokenizer_config:
        return
    from transformers import AutoConfig, AutoTokenizer

    from distill.core.checksums import SAFE

    try:
        AutoConfig.from_pretrained(folder, **SAFE)
        AutoTokenizer.from_pretrained(folder, **SAFE)
    except (ValueError, OSError, KeyError):
        raise UserError(
            f"the model {name} needs custom code (auto_map), which is never run; name one "
            "whose architecture and tokenizer transformers has"
        ) from None
