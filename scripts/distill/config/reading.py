"""Read a config as a typed model and report each mistake in one sentence with key and remedy."""

import difflib
import math
from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import Any, TypeVar, get_args

import yaml
from pydantic import BaseModel, ValidationError

from distill.core.display import brief, short_name
from distill.core.errors import UserError

Model = TypeVar("Model", bound=BaseModel)


class _StrictLoader(yaml.SafeLoader):
    """A YAML loader that rejects duplicate keys; plain YAML silently keeps the last one."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key_node, _ in node.value:
            if key_node.tag.endswith(":merge"):  # `<<`, entries of another mapping
                continue
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, Hashable):
                continue  # the call below raises an error for it
            if key in seen:
                line = key_node.start_mark.line + 1
                raise UserError(
                    f"{key_node.start_mark.name}, line {line}: the key {key!r} is given twice; keep one"
                )
            seen.add(key)
        return super().construct_mapping(node, deep)


def check_yaml(path: str | Path) -> None:
    """Check that a config file is plain YAML without duplicate keys.

    Raises:
        UserError: The file is missing, is not YAML, has a duplicate key, or would run code.
    """
    try:
        with Path(path).open(encoding="utf-8") as stream:
            loaded = yaml.load(stream, _StrictLoader)
    except FileNotFoundError:
        raise UserError(f"the config file {path} does not exist") from None
    except UnicodeDecodeError:
        raise UserError(
            f"{path}, line {_undecodable(Path(path).read_bytes())}: not UTF-8 text, so not valid "
            "YAML; save the file as UTF-8"
        ) from None
    except RecursionError:
        raise UserError(f"{path} is nested too deeply; remove levels") from None
    except (yaml.YAMLError, ValueError, OSError) as error:
        text = " ".join(str(error).split())
        raise UserError(f"{path} is not valid YAML: {text}") from None
    if not isinstance(loaded, dict):
        raise UserError(f"{path} must hold a mapping with keys such as study, teachers and runs")
    if "__use_yte__" in loaded:
        raise UserError(f"{path}: __use_yte__ lets Snakemake run code in the file; remove it")
    check_plain(loaded)


def _undecodable(data: bytes) -> int:
    """The first line that is not UTF-8."""
    lines = data.split(b"\n")
    return next(number for number, line in enumerate(lines, 1) if not _is_utf8(line))


def _is_utf8(line: bytes) -> bool:
    try:
        line.decode()
    except UnicodeDecodeError:
        return False
    return True


def readable(path: str) -> str:
    """Check a config file with `check_yaml` and return its path.

    Raises:
        SystemExit: The check failed.
    """
    try:
        check_yaml(path)
    except UserError as error:
        raise SystemExit(f"Error: {error}") from None
    return path


DEEPEST, MOST_ENTRIES = 30, 200_000


def check_plain(config: Any) -> None:
    """Check that a config holds only JSON types: text, finite numbers, lists and mappings.

    YAML also has dates, sets and recursive aliases, which later steps cannot store.

    Raises:
        UserError: A value or key has another type, or there are too many entries or levels.
    """
    todo: list[tuple[tuple[Any, ...], Any]] = [((), config)]
    entries = 0
    while todo:
        place, value = todo.pop()
        entries += 1
        if len(place) > DEEPEST or entries > MOST_ENTRIES:
            size = f"more than {MOST_ENTRIES:,} entries"
            size = size if entries > MOST_ENTRIES else f"more than {DEEPEST} levels"
            raise UserError(
                f"config: {place[0] if place else 'it'} has {size}; remove some, and any alias (*) "
                "that contains itself"
            )
        if isinstance(value, dict):
            for key in value:
                is_integer = isinstance(key, int) and not isinstance(key, bool)
                reason = None if is_integer else _not_text(key)
                if reason:
                    raise UserError(
                        f"config: {_where(place) or 'top level'}: the key {brief(key)} {reason}"
                    )
            todo += [((*place, key), entry) for key, entry in value.items()]
        elif isinstance(value, (list, tuple)):
            todo += [((*place, number), entry) for number, entry in enumerate(value)]
        elif isinstance(value, float) and not math.isfinite(value):
            raise UserError(f"config: {_where(place)}: {value} is not a finite number; give one")
        elif not (value is None or isinstance(value, (bool, int, float))) and (
            reason := _not_text(value)
        ):
            raise UserError(f"config: {_where(place)}: {brief(value)} {reason}")


def _not_text(value: Any) -> str | None:
    """Why a value is not text that a config may hold; None if it is."""
    if not isinstance(value, str):
        kind = type(value).__name__
        return f"is read by YAML as a {kind}; put it in quotes if you mean text"
    for character in value:
        code = ord(character)
        if (code < 32 and character not in "\n\r\t") or 127 <= code < 160:
            return f"contains the control character U+{code:04X}; remove it"
        if 0xD800 <= code < 0xE000:
            return f"contains the unpaired surrogate U+{code:04X}; remove it"
    return None


def _where(location: Sequence[Any]) -> str:
    """The path of a value, such as runs[0].samples."""
    parts = [f"[{part}]" if isinstance(part, int) else f".{short_name(part)}" for part in location]
    return "".join(parts).removeprefix(".")


def validate(model: type[Model], config: dict[str, Any]) -> Model:
    """Validate a config as one of its typed models.

    Raises:
        UserError: One sentence per mistake, each with its key and the remedy.
    """
    try:
        return model.model_validate(config)
    except ValidationError as error:
        raise UserError("\n".join(sentence(item, model) for item in error.errors())) from None


def sentence(item: Any, root: type[BaseModel]) -> str:
    """Describe one of pydantic's errors on a config of type `root`."""
    location = [part for part in item["loc"] if part != "[key]"]
    where = _where(location)
    if item["type"] == "extra_forbidden":
        keys = _keys_at(location[:-1], root)
        close = difflib.get_close_matches(str(location[-1]), keys, 1)
        hint = f"; did you mean {close[0]}?" if close else f"; the keys there are {', '.join(keys)}"
        return f"config: {where!r} is not a known key{hint}"
    if item["type"] == "missing":
        return f"config: {where} is missing; {_description(location, root) or 'it has no default'}"
    if item["type"] == "model_type":
        value = "is empty" if item["input"] is None else f"is {brief(item['input'])}"
        return f"config: {where} {value}; give it keys ({', '.join(_keys_at(location, root))})"
    if item["type"] == "value_error":
        lines = str(item["ctx"]["error"]).splitlines()
        return "\n".join(
            f"config: {where}: {line}" if where else f"config: {line}" for line in lines
        )
    if item["type"] == "string_pattern_mismatch" and item["ctx"]["pattern"].startswith(
        "^[A-Za-z0-9][A"
    ):
        return f"config: {where}: {brief(item['input'])} is not a valid name; use at most 64 letters, digits, '_', '-' and '.', starting with a letter or digit"
    text = item["msg"][0].lower() + item["msg"][1:]
    return f"config: {where}: {text}, but it is {brief(item['input'])}"


def _section_at(location: list[Any], root: type[BaseModel]) -> type[BaseModel] | None:
    """The model of the config section at a location such as ["teachers", "big"]."""
    section: Any = root
    for part in location:
        section = _required(section)
        if isinstance(section, type) and issubclass(section, BaseModel):
            if part not in section.model_fields:
                return None
            section = section.model_fields[part].annotation
        elif arguments := get_args(section):  # `part` is a name or number in a dict or list
            section = arguments[-1]
        else:
            return None
    section = _required(section)
    return section if isinstance(section, type) and issubclass(section, BaseModel) else None


def _required(kind: Any) -> Any:
    """A type without its `| None`."""
    options = [option for option in get_args(kind) if option is not type(None)]
    return options[0] if len(options) == 1 < len(get_args(kind)) else kind


def _keys_at(location: list[Any], root: type[BaseModel]) -> list[str]:
    section = _section_at(location, root)
    return list(section.model_fields) if section else []


def _description(location: list[Any], root: type[BaseModel]) -> str | None:
    section = _section_at(location[:-1], root)
    field = section.model_fields.get(str(location[-1])) if section else None
    return field.description if field else None
