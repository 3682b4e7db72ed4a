"""How many examples the tests of generated input look at.

The same ones in every run; `HYPOTHESIS_PROFILE=search pytest tests/hostile` looks at
others each time, and at 50 times as many.
"""

import os

from hypothesis import HealthCheck, settings

_QUICK = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("same", _QUICK, derandomize=True)
settings.register_profile("search", _QUICK, derandomize=False, print_blob=True)
PROFILE = os.environ.get("HYPOTHESIS_PROFILE", "same")
settings.load_profile(PROFILE)


def examples(number: int) -> settings:
    """A property is tried on so many examples."""
    return settings(max_examples=number * (50 if PROFILE == "search" else 1))
