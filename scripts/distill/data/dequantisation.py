"""Write a quantised checkpoint as plain fp32 weights, once, when it is fetched.

Everything after the fetch (scoring, cutting, training, FLOPs) then sees one kind of weights, and
the numbers do not depend on which kernels a machine has.
"""

import logging
import re
import tempfile
from pathlib import Path
from typing import Any

from distill.core.errors import UserError
from distill.core.model_files import read_object
from distill.core.quantised_models import quantisation_fault, quantisation_of
from distill.data.model_saving import as_plain, replace_model


def dequantise(folder: Path, name: str) -> None:
    """Replace quantised weights in a folder by the fp32 weights that they stand for; leave others.

    Args:
        folder: The model's files.
        name: The model's, for errors.

    Raises:
        UserError: The weights are of a kind that cannot be read, or are not what
            `quantization_config` says.
    """
    method = quantisation_of(folder)
    if method is None:
        return
    if fault := quantisation_fault(folder):
        raise UserError(f"the model {name} {fault}")
    logging.info("%s: weights quantised by %s become fp32", name, method)
    try:
        with tempfile.TemporaryDirectory(dir=folder.parent) as place:
            if method == "awq":
                _convert_awq(folder, Path(place))
                model = _opened(Path(place), name, "compressed-tensors")
            else:
                model = _opened(folder, name, method)
    except (ValueError, TypeError, RuntimeError, ImportError, KeyError) as error:
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise UserError(
            f"the quantised weights ({method}) of the model {name} cannot be read ({reason}); name "
            "its unquantised original"
        ) from None
    replace_model(folder, as_plain(model))


def _opened(folder: Path, name: str, method: str) -> Any:
    """The model with fp32 weights."""
    import torch
    from transformers.quantizers.auto import AUTO_QUANTIZATION_CONFIG_MAPPING

    from distill.models.weights import open_weights

    if method == "bitsandbytes":
        return open_weights(folder, name=name, dtype=torch.float32).dequantize(dtype=torch.float32)
    plain = AUTO_QUANTIZATION_CONFIG_MAPPING[method](dequantize=True)
    return open_weights(folder, name=name, dtype=torch.float32, quantization_config=plain)


def _convert_awq(folder: Path, place: Path) -> None:
    """Write a model of AutoAWQ in the format of compressed-tensors."""
    from compressed_tensors.entrypoints.convert import AutoAWQConverter, convert_checkpoint

    settings = read_object(folder / "config.json")["quantization_config"]
    kept = [f"re:.*{re.escape(name)}.*" for name in settings.get("modules_to_not_convert") or ()]
    known = ("bits", "group_size", "zero_point", "version")
    given = {name: settings[name] for name in known if name in settings}
    converter = AutoAWQConverter(ignore=["lm_head", *kept], **given)
    convert_checkpoint(folder, place, converter, device="cpu")
