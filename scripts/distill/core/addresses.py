"""Addresses in messages from outside, which may hold what no log may."""

import re


def without_secrets(text: str) -> str:
    """A text on one line whose addresses have no user, password or query (which may be signed)."""
    line = re.sub(r"//[^\s/]*@", "//…@", " ".join(text.split()))
    return re.sub(r"(://[^\s?]*\?)[^\s'\")]+", r"\1…", line)
