"""What the files of a model directory say about the quantisation of its weights."""

from pathlib import Path

from distill.core.model_files import read_object, weight_shapes

METHODS = ("awq", "bitsandbytes", "compressed-tensors", "fp8", "mxfp4", "mxfp8")
"""Methods whose weights are read: plain weights are written of them when they are fetched."""
_SCALES = ("scale", "scales", "scale_inv", "absmax", "SCB")
"""Ends of the names of the scales that quantised weights have beside them."""


def quantisation_of(folder: Path) -> str | None:
    """The method that quantised a model's weights by its config.json; None if none did."""
    settings = read_object(folder / "config.json").get("quantization_config")
    if not isinstance(settings, dict):
        return None
    return str(settings.get("quant_method") or "bitsandbytes")


def quantisation_fault(folder: Path) -> str | None:
    """Why quantised weights cannot be read, with a remedy, as the end of a sentence; None if they
    can, or are plain."""
    method = quantisation_of(folder)
    if method is None:
        return None
    if method not in METHODS:
        package = "; the package gptqmodel can write it with plain weights" * (method == "gptq")
        return (
            f"has weights quantised by {method}, which are not read{package}; name its unquantised "
            f"original, or a version by {', '.join(METHODS)} or in a GGUF file"
        )
    if not any(key.endswith(_SCALES) for key in weight_shapes(folder)):
        return (
            f"has weights quantised by {method} according to its config.json, but its files hold "
            "no scales of quantised weights; remove quantization_config from config.json if the "
            "weights are plain, or get the model again"
        )
    return None
