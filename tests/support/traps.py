"""Files that leave a mark if anything executes them."""

import pickle
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch


class _Payload:
    """Unpickling it runs a command."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        import os

        return os.system, (self.command,)


@dataclass(frozen=True)
class Trap:
    """A mark that is left if a planted program or pickle runs."""

    mark: Path

    @property
    def sprung(self) -> bool:
        """Whether something ran."""
        return self.mark.exists()

    @property
    def payload(self) -> Any:
        """An object whose pickle runs a command when it is loaded."""
        return _Payload(f"touch {shlex.quote(str(self.mark))}")

    def pickle(self) -> bytes:
        """A pickle that leaves the mark."""
        return pickle.dumps({"weight": self.payload})

    def torch_file(self, path: Path) -> Path:
        """A file as torch.save writes it, that leaves the mark."""
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.save({"weight": self.payload}, path)
        return path

    def code(self) -> str:
        """A Python module that leaves the mark when it is imported."""
        return f"open({str(self.mark)!r}, 'w').close()\n\n\nclass Custom:\n    pass\n"
