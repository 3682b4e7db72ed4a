"""Write files whole or not at all, read JSON, and say what is wrong in one sentence."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from distill.shown import visible


class UserError(Exception):
    """A mistake that the user can mend; its text is one sentence with the remedy.

    What it quotes of names, cells and other text cannot steer a terminal.
    """

    def __init__(self, sentence: str) -> None:
        super().__init__(visible(sentence))


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside `path` that takes its place when the block succeeds.

    A killed or failed block leaves `path` as it was.
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: str | Path, text: str) -> None:
    """Write UTF-8 text atomically."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: str | Path, record: Any) -> None:
    """Write `record` as plain JSON, atomically.

    Raises:
        ValueError: `record` holds NaN or infinity, which JSON cannot say.
    """
    write_text(path, json.dumps(record, indent=1, allow_nan=False, ensure_ascii=False) + "\n")


def read_json(path: str | Path) -> Any:
    """Read a JSON file.

    Raises:
        UserError: the file is missing or is not JSON.
    """
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path} is missing; run the workflow again to make it") from None
    except ValueError as error:
        raise UserError(
            f"{path} is not readable JSON ({error}); delete it and run the workflow again"
        ) from None
