"""What a question may choose, and its defaults; imports nothing, as the command line needs it."""

from typing import Literal

Unit = Literal["flops", "hours", "money"]
UNITS: tuple[Unit, ...] = ("flops", "hours", "money")
"""Of a budget."""
SCOPES = ("all", "training")
"""What FLOPs and hours pay for."""
MAX_FACTOR = 4.0
"""Factor outside the fitted range beyond which an answer warns."""
MOST_RUNS = 24
"""Runs that are proposed, at most."""
