"""Save a converted model in the place of the files that it was made from."""

import tempfile
from pathlib import Path
from typing import Any

from distill.core.model_files import ADAPTER


def as_plain(model: Any) -> Any:
    """A model whose weights are plain again, without the marks that forbid saving it as such."""
    # Its conversions would be undone in what is saved.
    marks = ("hf_quantizer", "is_quantized", "quantization_method", "_weight_conversions")
    for mark in marks:
        if mark in model.__dict__:
            delattr(model, mark)
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    return model


def replace_model(folder: Path, model: Any, words: Any = None) -> None:
    """Replace config and weights in a folder by those of a model; its files may be links."""
    with tempfile.TemporaryDirectory(dir=folder) as place:
        model.save_pretrained(place)
        if words is not None:
            words.save_pretrained(place)
        stale = [*folder.glob("*.safetensors*"), folder / "config.json", folder / ADAPTER]
        for file in stale:
            file.unlink(missing_ok=True)
        for file in Path(place).iterdir():
            file.replace(folder / file.name)
