"""Which columns of a file of unknown layout hold prompts, contexts, answers and system texts."""

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from distill.core.errors import UserError
from distill.core.rows.chats import decoded_chat, is_chat
from distill.core.rows.faults import Faults
from distill.core.rows.files import DataFile, data_files, describe, missing_packages
from distill.core.rows.json_rows import read_json
from distill.core.rows.separated import read_separated

NAMES: dict[str, tuple[str, ...]] = {
    "chat": ("messages", "conversations", "conversation", "chat", "dialogue", "dialog", "turns"),
    "prompt": (
        "prompt", "question", "instruction", "query", "user", "human", "request", "problem",
        "input", "q", "text",
    ),
    "response": (
        "response", "answer", "output", "completion", "reply", "assistant", "chosen", "solution",
        "target", "answers", "gold", "bot", "a",
    ),
    "context": ("context", "input", "passage", "document", "article", "paragraph", "background"),
    "system": ("system", "system_prompt", "systemprompt"),
}  # fmt: skip
"""Names of columns by what they usually hold, the most specific first."""
_OTHER = {"", "id", "idx", "index", "uuid", "url", "source", "category", "label", "split", "title"}
_ROWS = 200


def first_rows(path: str | Path, split: str = "train", most: int = _ROWS) -> list[Any]:
    """The first rows of a data set with all their columns.

    Args:
        path: As of `data_files`.
        split: Its split.
        most: Number of rows.

    Raises:
        UserError: There is no such file, it is damaged, or this Python cannot read it.
    """
    file = describe(data_files(path, split)[0])
    if missing := missing_packages([file]):
        raise UserError(f"{path} needs the package {missing[0]}; run pip install {missing[0]}")
    return list(islice(_rows(file, split), most))


def _rows(file: DataFile, split: str) -> Iterator[Any]:
    """Rows of a file as they are."""
    names = [name for several in NAMES.values() for name in several]
    if file.form == "lines":
        return iter([{"text": "a line of the file"}])
    if file.form in ("json", "jsonl"):
        rows = read_json(file, names, split, None, Faults())
    elif file.form in ("csv", "tsv"):
        rows = read_separated(file, names, None, Faults(), lambda path, header: None)
    elif file.form == "sheet":
        from distill.core.rows.sheets import read_sheet

        rows = read_sheet(file.path, (), lambda path, header: None)
    else:
        rows = _columnar(file)
    return (row for _, row in rows)


def _columnar(file: DataFile) -> Iterator[tuple[Any, Any]]:
    """Rows of a Parquet or Arrow file, with every column."""
    from distill.core.rows.columns import read_columns

    columns: list[str] = []
    read = read_columns(file.path, file.form, (), lambda path, names: columns.extend(names))
    next(read, None)  # reads the names
    return read_columns(file.path, file.form, columns, lambda path, names: None)


def guess_fields(rows: Sequence[Any]) -> dict[str, str]:
    """Column of each field, by the names and the values of some rows; empty without any text.

    A chat in one column holds prompt, answer and system text.
    """
    columns = _columns(rows)
    chats = [path for path, values in columns.items() if _are(values, is_chat)]
    texts = [path for path, values in columns.items() if _are(values, _is_text)]
    if chats:
        return _fields_of_chats(chats, [*chats, *texts])
    system = _named(texts, "system")
    rest = [path for path in texts if path != system]
    prompt = _named(rest, "prompt")
    response = _named(rest, "response", besides=(prompt,))
    plain = [path for path in rest if _name(path) not in _OTHER and path != response]
    prompt = prompt or next(iter(plain), None)
    if prompt is None:
        return {}
    others = [path for path in plain if path != prompt]
    context = _named(others, "context")
    if response is None:
        response = next((path for path in others if path != context), None)
    fields = {"prompt": prompt, "context": context, "response": response, "system": system}
    return {field: path for field, path in fields.items() if path is not None}


def _fields_of_chats(chats: Sequence[str], paths: Sequence[str]) -> dict[str, str]:
    """Fields where columns hold chats: one whole chat, or a question and its answer apart."""
    whole = _named(chats, "chat")
    prompt = _named(chats, "prompt") if whole is None else None
    answer = _named(paths, "response", besides=(prompt,)) if prompt else None
    if prompt and answer:
        return {"prompt": prompt, "response": answer}
    return {"prompt": whole or prompt or chats[0]}


def _columns(rows: Sequence[Any]) -> dict[str, list[Any]]:
    """Values by path: columns, and the parts of objects and the first items of lists in them."""
    columns: dict[str, list[Any]] = {}
    for row in rows:
        for name, value in row.items() if isinstance(row, Mapping) else ():
            for path, part in _parts(str(name), decoded_chat(value)):
                columns.setdefault(path, []).append(part)
    return columns


def _parts(path: str, value: Any) -> Iterator[tuple[str, Any]]:
    """A value, or the texts inside it, with their paths."""
    if isinstance(value, Mapping):
        for name, part in value.items():
            yield from _parts(f"{path}.{name}", part)
    elif isinstance(value, list) and value and isinstance(value[0], str):
        yield f"{path}[0]", value[0]
    else:
        yield path, value


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(re.search(r"[^\W\d]", value))


def _are(values: Sequence[Any], kind: Any) -> bool:
    """Whether most values that are not empty are of a kind."""
    present = [value for value in values if value not in (None, "", [])]
    return bool(present) and 2 * sum(map(kind, present)) > len(present)


def _name(path: str) -> str:
    """The last name of a path, in lower case."""
    parts = [part for part in re.split(r"\.|\[\d+\]", path) if part]
    last = parts[-1] if parts else ""
    # A part such as answers.text says less than the column that holds it.
    column = parts[0] if last.lower() in ("text", "value", "content") else last
    return re.sub(r"[\s-]+", "_", column.strip().lower())


def _named(paths: Sequence[str], kind: str, besides: Collection[str | None] = ()) -> str | None:
    """The path whose name comes first among those of a kind."""
    free = {_name(path): path for path in reversed(paths) if path not in besides}
    return next((free[name] for name in NAMES[kind] if name in free), None)
