"""What a reader must know of how a user's own table was read; words are in the templates."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

_LISTED = 8


@dataclass(frozen=True)
class Note:
    """One thing that was done with rows, or that they show.

    Attributes:
        what: A stable key, which `report/answers/reading.j2` words.
        rows: Row numbers of the file, from 1, the first of many; empty where no rows are meant.
        count: How many rows.
        groups: Labels of the groups that it is about; empty for the table.
        numbers: What else the sentence says.
    """

    what: str
    rows: tuple[int, ...] = ()
    count: int = 0
    groups: tuple[str, ...] = ()
    numbers: dict[str, Any] = field(default_factory=dict)

    def record(self) -> dict[str, Any]:
        """Its entry of references.json."""
        return asdict(self) | {"rows": list(self.rows), "groups": list(self.groups)}


def note_of_rows(what: str, rows: Iterable[int], **numbers: Any) -> list[Note]:
    """A note about rows; none without rows."""
    every = [int(row) for row in rows]
    return [Note(what, tuple(every[:_LISTED]), len(every), (), numbers)] if every else []
