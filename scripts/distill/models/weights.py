"""Open a checkpoint and compare its tensors with those that the architecture needs.

The library initialises missing weights at random and drops unexpected ones, with a warning alone.
"""

import logging
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig

from distill.core.checksums import SAFE
from distill.core.display import listed
from distill.core.errors import UserError
from distill.models.forward import model_class

_SHOWN = 3
"""Tensors that an error names."""


def open_weights(path: str | Path, *, name: str | None = None, **settings: Any) -> Any:
    """A causal or masked language model with all its weights from a directory.

    Args:
        path: Directory with `config.json` and safetensors weights.
        name: The model's, for errors; its path if None.
        settings: Arguments of the library's `from_pretrained`.

    Raises:
        UserError: Weights are missing, have other shapes, or belong to a part that the
            architecture of `config.json` lacks.
    """
    config = AutoConfig.from_pretrained(path, **SAFE)
    model, report = model_class(config).from_pretrained(
        path,
        use_safetensors=True,
        output_loading_info=True,
        ignore_mismatched_sizes=True,
        **settings,
        **SAFE,
    )
    check_report(model, report, str(name or path))
    return model


def check_weights(path: str | Path, name: str) -> None:
    """Compare the tensors of a directory with its architecture, without memory for weights.

    Raises:
        UserError: As `open_weights`.
    """
    open_weights(path, name=name, device_map={"": "meta"}, dtype=torch.float32)


def check_report(model: Any, report: Mapping[str, Any], name: str) -> None:
    """Check what the library reports of loading a model.

    Args:
        model: The loaded model.
        report: The library's `loading_info`: missing_keys, unexpected_keys, mismatched_keys
            (name, shape in the file, shape in the model) and error_msgs.
        name: The model's, for errors.

    Raises:
        UserError: As `open_weights`.
    """
    again = "get the model again, or save it with save_pretrained of its own class"
    missing, unexpected = sorted(report["missing_keys"]), sorted(report["unexpected_keys"])
    if missing:
        others = f", while its files hold {_first(unexpected)} instead" if unexpected else ""
        raise UserError(
            f"the weights of the model {name} lack {_first(missing)}, which its architecture "
            f"({type(model).__name__}) needs{others}; {_remedy(missing, unexpected, again)}"
        )
    if report["mismatched_keys"]:
        key, stored, needed = sorted(report["mismatched_keys"])[0]
        raise UserError(
            f"the weight {key} of the model {name} has the shape {list(stored)}, but its "
            f"config.json needs {list(needed)}; correct config.json, or {again}"
        )
    if reasons := report.get("error_msgs"):
        raise UserError(f"the weights of the model {name} cannot be read ({reasons[0]}); {again}")
    modules = {path for path, _ in model.named_modules()}
    leaves = {path for path, module in model.named_modules() if not list(module.children())}
    if alien := [key for key in unexpected if _changes_outputs(key, modules, leaves)]:
        raise UserError(
            f"the weights of the model {name} hold {_first(alien)}, which its architecture "
            f"({type(model).__name__} by its config.json) leaves out, so its outputs would differ "
            f"from the trained model's; correct config.json, or {again}"
        )
    if unexpected:
        logging.warning("%s: %s is no part of the language model", name, _first(unexpected))


def _first(keys: Iterable[str]) -> str:
    """The first keys, and how many more there are."""
    keys = list(keys)
    more = f" and {len(keys) - _SHOWN} more" if len(keys) > _SHOWN else ""
    return listed(keys[:_SHOWN]) + more


def _remedy(missing: list[str], unexpected: list[str], again: str) -> str:
    """What helps if weights are missing, by which ones they are."""
    ends = [key for key in unexpected if any(key.endswith("." + name) for name in missing)]
    if ends:
        prefix = next(ends[0].removesuffix(name) for name in missing if ends[0].endswith(name))
        return f"remove the prefix {prefix!r} from the names of its tensors, or {again}"
    if all("layers." not in key and ".h." not in key for key in missing):
        return "it is the body of a model, or of another task; name a model with a language head"
    return again


def _changes_outputs(key: str, modules: set[str], leaves: set[str]) -> bool:
    """Whether an unexpected tensor belongs inside the model, rather than to a head beside it.

    Inside means: to a module that exists, or to a further or changed layer of a numbered stack.
    """
    parts = key.split(".")
    depth = next(size for size in range(len(parts), -1, -1) if ".".join(parts[:size]) in modules)
    if depth == 0:
        return False
    parent = ".".join(parts[:depth])
    numbered = any(part.isdigit() for part in parts[: depth + 1])
    return parent in leaves or numbered
