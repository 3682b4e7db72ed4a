"""The configured fields of a data set's rows: which are used, left out or mistaken."""

import math
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from typing import Any, NamedTuple

from distill.core.display import listed, short_name
from distill.core.errors import UserError
from distill.core.rows.chats import (
    Chat,
    Turn,
    chat_row,
    chat_rows,
    decoded_chat,
    is_chat,
    read_turns,
)
from distill.core.rows.faults import Faults, Place, Places

FIELDS = ("prompt", "context", "response", "text", "system")
"""Fields that a config can assign to columns of a data set."""
COLUMNS = (*FIELDS, "turns")
"""Columns of a row."""
_MISSING = {"nan", "<NA>"}
"""What pandas writes for a missing value where all values were made text."""
_KINDS = {bool: "true or false", int: "a number", float: "a number", list: "a list",
          dict: "an object"}  # fmt: skip
_NO_VALUE = object()

Row = dict[str, str | None]


class Path(NamedTuple):
    """A column, or a value inside one, such as `answers.text[0]`."""

    text: str
    steps: tuple[str | int, ...]

    @classmethod
    def parse(cls, text: str) -> "Path":
        """The steps of a path: names and positions."""
        pieces = re.findall(r"\[(-?\d+)\]|([^.\[\]]+)", text.strip())
        return cls(text.strip(), tuple(int(place) if place else name for place, name in pieces))

    @property
    def column(self) -> str:
        """The column that holds the value, unless there is one of the entire name."""
        return str(self.steps[0]) if self.steps else self.text

    def of(self, row: Mapping[str, Any]) -> Any:
        """The value in a row; `_NO_VALUE` if the row has none there."""
        if self.text in row:
            return row[self.text]
        value: Any = row
        for step in self.steps:
            try:
                value = value[step]
            except (KeyError, IndexError, TypeError):
                return _NO_VALUE
        return value


def needed_columns(fields: Mapping[Any, str]) -> list[str]:
    """Columns that fields are in: the names themselves, and those before a dot or bracket."""
    paths = [Path.parse(column) for column in fields.values()]
    return list(dict.fromkeys(name for path in paths for name in (path.text, path.column)))


class Picker:
    """Picks the fields of one row after the other, and counts.

    Args:
        name: The data set's name, for errors.
        fields: Column of each field, or path into one.
        filled: Fields without which a row is left out: prompt, response or text.
        max_left_out: Largest share of rows that may be left out.
        faults: Takes the mistakes.
        all_turns: Whether a chat is a row for each of its user turns rather than for the last.
    """

    def __init__(
        self,
        name: Any,
        fields: Mapping[Any, str],
        filled: Collection[str],
        max_left_out: float,
        faults: Faults,
        all_turns: bool = False,
    ) -> None:
        self.name, self.faults, self.max_left_out = name, faults, max_left_out
        self.all_turns = all_turns
        self.paths = {field: Path.parse(column) for field, column in fields.items()}
        self.filled = [field for field in FIELDS if field in filled]
        self.read = 0
        """Rows so far, those left out included; a chat is one."""
        self.usable = 0
        """Rows that were picked."""
        self.left_out = {field: Places() for field in self.filled}
        """Rows that lack a field, by the first field that they lack."""
        self._seen: set[str] = set()
        self._names: dict[str, None] = {}

    def rows(self, rows: Iterable[tuple[Place, Any]]) -> Iterator[Row]:
        """The usable rows.

        Args:
            rows: Rows as read, with their places.

        Raises:
            UserError: A column is in no row, rows have mistakes, or too many were left out.
        """
        for place, row in rows:
            self.read += 1
            picked = self._pick(place, row)
            self.usable += len(picked)
            yield from picked
        self.faults.check()
        if self.read:
            self._check_seen()
        self._check_left_out()

    def check_header(self, file: Any, names: Sequence[str]) -> None:
        """Check that a file has the columns of all fields.

        Args:
            file: Its path.
            names: The columns of all its rows.

        Raises:
            UserError: It lacks one.
        """
        for path in self.paths.values():
            if path.text not in names and path.column not in names:
                raise _no_column(file, path, names)

    def _pick(self, place: Place, row: Any) -> list[Row]:
        """The fields of a row, by user turn of a chat; empty if it is left out or has a mistake."""
        if not isinstance(row, Mapping):
            self.faults.add(place, "not an object with named fields")
            return []
        if len(self._names) < 100:
            self._names.update(dict.fromkeys(map(str, row)))
        values = {}
        for field, path in self.paths.items():
            value = path.of(row)
            if value is not _NO_VALUE:
                self._seen.add(field)
            values[field] = None if value is _NO_VALUE else value
        try:
            chats: list[Chat | None] = [*self._chats(values)] or [None]
            texts = [self._texts(values, chat) for chat in chats]
        except ValueError as error:
            self.faults.add(place, str(error))
            return []
        lacking = [self._lacking(picked) for picked in texts]
        if all(lacking):
            self.left_out[lacking[0]].add(place)
        return [picked for picked, field in zip(texts, lacking, strict=True) if not field]

    def _lacking(self, picked: Row) -> str:
        """The first field that a row lacks; empty if it has all."""
        empty = (field for field in self.filled if not (picked[field] or "").strip())
        return next(empty, "")

    def _texts(self, values: dict[str, Any], chat: Chat | None) -> Row:
        """The fields as text, those of a chat in place of the columns that hold it.

        Raises:
            ValueError: One is not text.
        """
        picked: Row = dict.fromkeys(COLUMNS)
        if chat:
            picked |= chat._asdict()
        for field, value in values.items():
            if chat and field in ("prompt", "response"):
                continue
            text = as_text(value, short_name(self.paths[field].text))
            if field == "system" and picked["system"] and text not in (None, picked["system"]):
                raise ValueError("two system texts, one of the chat; remove one of them")
            picked[field] = text if text is not None else picked[field]
        if not (picked["system"] or "").strip():
            picked["system"] = None
        return picked

    def _chats(self, values: dict[str, Any]) -> list[Chat]:
        """The rows of a chat, if the prompt or the response is one; else empty.

        Raises:
            ValueError: It is not a chat of text, or it does not end with an answer.
        """
        if "prompt" not in values:
            return []
        asked = decoded_chat(values["prompt"])
        same = self.paths.get("response", self.paths["prompt"]) == self.paths["prompt"]
        answer = None if same else decoded_chat(values["response"])
        if not is_chat(asked) and not is_chat(answer):
            return []
        turns = self._turns(asked, "prompt", "user")
        added = [] if same else self._turns(answer, "response", "assistant")
        if any(turn.role == "user" for turn in added) and added[: len(turns)] == turns:
            turns = []  # the response is the entire chat, as `chosen` of preference data
        whole = [*turns, *added]
        chats = chat_rows(whole) if self.all_turns else [chat_row(whole)]
        for chat in chats:
            for text in chat:
                _check_unicode(text, short_name(self.paths["prompt"].text))
        return chats

    def _turns(self, value: Any, field: str, role: str) -> list[Turn]:
        """A value as turns: those of a chat, or one of a text."""
        if is_chat(value):
            return read_turns(value)
        text = as_text(value, short_name(self.paths[field].text))
        return [] if text is None else [Turn(role, text)]

    def _check_seen(self) -> None:
        """Check that each field was there at least once.

        Raises:
            UserError: One was not.
        """
        for field, path in self.paths.items():
            if field in self._seen:
                continue
            if path.text not in self._names and path.column not in self._names:
                raise _no_column(self.name, path, self._names)
            raise UserError(
                f"{self.name}: no row has a value at {path.text!r}; correct the path under fields"
            )

    def _check_left_out(self) -> None:
        """Check that enough rows are left.

        Raises:
            UserError: More rows lack a field than the source allows, or there is none at all.
        """
        if not self.read:
            raise UserError(f"{self.name} has no rows; give a file with rows")
        lacking = {field: places for field, places in self.left_out.items() if places.count}
        count = sum(places.count for places in lacking.values())
        if count <= self.max_left_out * self.read and count < self.read:
            return
        which = "; ".join(
            f"{places.count} without {self._name(field)} ({places.text()})"
            for field, places in lacking.items()
        )
        allowed = f"more than {100 * self.max_left_out:g}%"
        remedy = "fill or remove them, or raise the source's max_left_out"
        if count == self.read:
            allowed, remedy = "all of them", "fill them, or correct the source's fields"
        raise UserError(
            f"{self.name}: {count} of {self.read} rows would be left out, {allowed}: {which}; "
            f"{remedy}"
        )

    def _name(self, field: str) -> str:
        """What a row without a field lacks."""
        if field in self.paths:
            return self.paths[field].text
        return f"an answer in {self.paths['prompt'].text}"

    @property
    def record(self) -> dict[str, Any]:
        """Numbers of rows: `read`, `usable`, and `left_out` by the column that they lack."""
        counts = {self._name(field): places.count for field, places in self.left_out.items()}
        return {
            "read": self.read,
            "usable": self.usable,
            "left_out": {name: count for name, count in counts.items() if count},
        }


def _no_column(file: Any, path: Path, names: Iterable[str]) -> UserError:
    return UserError(
        f"{file}: no column {path.text!r}; there are {listed(names)}{_nearest(path.column, names)}"
    )


def _nearest(column: str, names: Iterable[str]) -> str:
    """A suggestion of the column with the most similar name, of any case."""
    lower = {name.strip().lower(): name for name in names}
    near = get_close_matches(column.strip().lower(), lower, 1)
    return f"; did you mean {lower[near[0]]!r}?" if near else ""


def as_text(value: Any, name: str) -> str | None:
    """A value of a text field; None where it is missing.

    Whole numbers become their digits. NaN is missing, and so is the text that pandas makes of it.

    Raises:
        ValueError: It is not text.
    """
    if isinstance(value, str):
        _check_unicode(value, name)
        return None if value in _MISSING else value
    if value is None or value in ([], {}) or (isinstance(value, float) and math.isnan(value)):
        return None
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if isinstance(value, bytes):
        try:
            return value.decode("utf-8")
        except UnicodeDecodeError:
            raise ValueError(f"{name} is not text but bytes; write it as text") from None
    raise ValueError(f"{name} is not text but {_kind(value, name)}")


def _kind(value: Any, name: str) -> str:
    """What a value is, and the remedy."""
    if is_chat(value):
        return "a chat; only prompt and response can be one"
    if isinstance(value, list):
        return f"a list; name one of its items, such as {name}[0], or write it as text"
    if isinstance(value, Mapping):
        part = next(iter(value))
        return f"an object; name one of its parts ({listed(value)}), such as {name}.{part}"
    kind = _KINDS.get(type(value), type(value).__name__)
    return f"{kind}; write it as text"


def _check_unicode(text: str | None, name: str) -> None:
    """Check that a text can be encoded; JSON can contain unpaired surrogates.

    Raises:
        ValueError: It cannot.
    """
    try:
        (text or "").encode()
    except UnicodeEncodeError:
        raise ValueError(f"{name} has an unpaired surrogate; correct it") from None
