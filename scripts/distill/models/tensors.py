"""Tensors in safetensors files with a checksum of their own."""

import hashlib
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from distill.core.errors import UserError
from distill.core.files import CHECKSUM, altered, replacing


def save_tensors(
    tensors: dict[str, torch.Tensor], path: str | Path, marks: dict[str, str] | None = None
) -> None:
    """Write tensors as safetensors, with marks and a checksum of both."""
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    marks = marks or {}
    with replacing(path) as temporary:
        save_file(plain, temporary, {**marks, CHECKSUM: _seal(plain, marks)})


def load_tensors(path: str | Path) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """The tensors and marks of a file by `save_tensors`, on the CPU.

    Raises:
        UserError: It is damaged.
    """
    try:
        with safe_open(path, framework="pt") as file:
            marks = dict(file.metadata() or {})
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, ValueError) as error:
        raise UserError(
            f"{path} is not a readable safetensors file ({error}); delete it and run the workflow "
            "again"
        ) from None
    if marks.pop(CHECKSUM, None) != _seal(tensors, marks):
        raise altered(path)
    return tensors, marks


def _seal(tensors: dict[str, torch.Tensor], marks: dict[str, str]) -> str:
    """SHA-256 of tensors and marks."""
    digest = hashlib.sha256(repr(sorted(marks.items())).encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.view(-1).view(torch.uint8).numpy())
    return digest.hexdigest()
