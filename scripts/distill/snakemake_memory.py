"""What Snakemake remembers of files, below `.snakemake`."""

import base64
from pathlib import Path


def _is_kept(folder: str, path: str) -> bool:
    encoded = base64.urlsafe_b64encode(path.encode()).decode()
    pieces = [encoded[start : start + 254] for start in range(0, len(encoded), 254)]
    pieces = [f"@{piece}" for piece in pieces[:-1]] + pieces[-1:]
    return Path(".snakemake", folder, *pieces).is_file()


def has_metadata(path: str) -> bool:
    """Whether Snakemake remembers how a file was made."""
    return _is_kept("metadata", path)


def is_incomplete(path: str) -> bool:
    """Whether a job had begun to make a file, and Snakemake has not noted its end."""
    return _is_kept("incomplete", path)
