"""Rows of the first sheet of a workbook: Excel's, or an OpenDocument one."""

import datetime
import logging
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from python_calamine import CalamineError, CalamineWorkbook, PasswordError

from distill.core.errors import UserError
from distill.core.rows.faults import Header, Place


def read_sheet(
    path: Path, columns: Collection[str], check: Header
) -> Iterator[tuple[Place, dict[str, Any]]]:
    """Rows of a workbook's first sheet; its first row that is not empty names the columns.

    Numbers are written as Excel shows them without a format. Row numbers are those of the sheet.

    Args:
        path: The workbook.
        columns: Needed columns.
        check: Checks the names of the columns.

    Raises:
        UserError: It is not a workbook, has a password, or two needed columns have one name.
    """
    try:
        with CalamineWorkbook.from_path(path) as book:
            names = book.sheet_names
            sheet = book.get_sheet_by_index(0)
    except PasswordError:
        raise UserError(f"{path} has a password; save it without one") from None
    except (CalamineError, OSError, ValueError, IndexError) as error:
        reason = " ".join(str(error).split())
        raise UserError(
            f"{path} is not a readable Excel workbook ({reason}); save it again, or as CSV UTF-8"
        ) from None
    if len(names) > 1:
        logging.info("%s: the sheet %r is read, the first of %s", path, names[0], ", ".join(names))
    header: list[str] | None = None
    for number, cells in enumerate(sheet.to_python(skip_empty_area=False), 1):
        texts = [_text(cell) for cell in cells]
        if not any(texts):
            continue
        if header is None:
            header = [text.strip() for text in texts]
            if twice := [name for name in header if name in columns and header.count(name) > 1]:
                raise UserError(
                    f"{path}: two columns have the name {twice[0]!r}; rename one of them"
                )
            check(path, header)
            continue
        yield Place(path, f"row {number}"), dict(zip(header, texts, strict=False))


def _text(cell: Any) -> str:
    """A cell's value as text."""
    if isinstance(cell, bool):
        return str(cell).upper()
    if isinstance(cell, float) and cell.is_integer():
        return str(int(cell))
    if isinstance(cell, (datetime.date, datetime.time)):
        return cell.isoformat()
    return str(cell)
