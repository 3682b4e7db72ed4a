"""Run the command line as a process."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from miniature import ROOT

ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT / "scripts")}


def command(*arguments: str | Path) -> list[str]:
    """The command line of `distill`, whether it is installed or not."""
    return [sys.executable, "-m", "distill", *map(str, arguments)]


def distill(*arguments: str | Path, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run `distill`; options are those of `subprocess.run`."""
    options = {"env": ENVIRONMENT, "capture_output": True, "text": True, **options}
    return subprocess.run(command(*arguments), **options)
