"""`transformers serve`, which decodes greedily by default."""

import json
from typing import Any

from distill.contracts.dialects.dialect import Decoding, Dialect


def whole_distribution(decoding: Decoding) -> dict[str, Any]:
    """A generation config for the request."""
    names = ("temperature", "top_p", "top_k")
    settings = {"do_sample": True, **{name: decoding[name] for name in names}}
    return {"generation_config": json.dumps(settings)}


TRANSFORMERS = Dialect(software="transformers", whole_distribution=whole_distribution)
