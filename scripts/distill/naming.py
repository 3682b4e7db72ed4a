"""Names of files and folders: short digests of specs, and readable stems."""

import hashlib
import json
import re
from typing import Any


def digest(spec: Any) -> str:
    """Eight hexadecimal digits that name a spec."""
    return hashlib.sha256(json.dumps(spec, sort_keys=True).encode()).hexdigest()[:8]


def slug(text: str) -> str:
    """A text as part of a file name: lower case letters, digits and hyphens."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:40].strip("-")
