"""Remove secrets from addresses in messages of other programs."""

import re


def without_secrets(text: str) -> str:
    """Join a text to one line; remove user, password and (possibly signed) query of addresses."""
    line = re.sub(r"//[^\s/]*@", "//…@", " ".join(text.split()))
    return re.sub(r"(://[^\s?]*\?)[^\s'\")]+", r"\1…", line)
