"""Read a config as a typed model: each mistake one sentence with its key and remedy."""

import difflib
from pathlib import Path
from typing import Any, TypeVar, get_args

import yaml
from pydantic import BaseModel, ValidationError

from distill.files import UserError

Model = TypeVar("Model", bound=BaseModel)


class _StrictLoader(yaml.SafeLoader):
    """YAML that refuses a key given twice, which plain YAML lets the last one win."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key_node, _ in node.value:
            if key_node.tag.endswith(":merge"):  # `<<`, entries of another mapping
                continue
            key = self.construct_object(key_node, deep=True)
            if isinstance(key, str) and key in seen:
                line = key_node.start_mark.line + 1
                raise UserError(
                    f"{key_node.start_mark.name}, line {line}: the key {key!r} is given twice; keep one"
                )
            if isinstance(key, str):
                seen.add(key)
        return super().construct_mapping(node, deep)


def check_yaml(path: str | Path) -> None:
    """Check that a config file is YAML without repeated keys.

    Raises:
        UserError: It is missing, is no YAML, or gives a key twice.
    """
    try:
        with Path(path).open(encoding="utf-8") as stream:
            loaded = yaml.load(stream, _StrictLoader)
    except FileNotFoundError:
        raise UserError(f"the config file {path} does not exist") from None
    except (yaml.YAMLError, ValueError) as error:
        text = " ".join(str(error).split())
        raise UserError(f"{path} is not readable YAML: {text}") from None
    if not isinstance(loaded, dict):
        raise UserError(f"{path} must hold a mapping with keys such as study, teachers and runs")


def validate(model: type[Model], config: dict[str, Any]) -> Model:
    """A config as one of its typed models.

    Raises:
        UserError: One sentence per mistake, each naming its key and the remedy.
    """
    try:
        return model.model_validate(config)
    except ValidationError as error:
        raise UserError("\n".join(sentence(item, model) for item in error.errors())) from None


def sentence(item: Any, root: type[BaseModel]) -> str:
    """One mistake that pydantic found in a config of type `root`, in words."""
    location = [part for part in item["loc"] if part != "[key]"]
    where = ".".join(str(part) for part in location)
    where = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location)[1:]
    if item["type"] == "extra_forbidden":
        keys = _keys_at(location[:-1], root)
        close = difflib.get_close_matches(str(location[-1]), keys, 1)
        hint = f"; did you mean {close[0]}?" if close else f"; the keys there are {', '.join(keys)}"
        return f"config: {where!r} is not a known key{hint}"
    if item["type"] == "missing":
        return f"config: {where} is missing; {_description(location, root) or 'it has no default'}"
    if item["type"] == "model_type":
        found = "nothing stands there" if item["input"] is None else f"it is {item['input']!r}"
        return (
            f"config: {where}: give keys below it ({', '.join(_keys_at(location, root))}); {found}"
        )
    if item["type"] == "value_error":
        lines = str(item["ctx"]["error"]).splitlines()
        return "\n".join(
            f"config: {where}: {line}" if where else f"config: {line}" for line in lines
        )
    if item["type"] == "string_pattern_mismatch" and item["ctx"]["pattern"].startswith(
        "^[A-Za-z0-9][A"
    ):
        return f"config: {where}: {item['input']!r} cannot be a name; use at most 64 letters, digits, '_', '-' and '.', beginning with a letter or digit"
    text = item["msg"][0].lower() + item["msg"][1:]
    return f"config: {where}: {text}, but it is {item['input']!r}"


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
    """A kind without its `| None`."""
    given = [option for option in get_args(kind) if option is not type(None)]
    return given[0] if len(given) == 1 < len(get_args(kind)) else kind


def _keys_at(location: list[Any], root: type[BaseModel]) -> list[str]:
    section = _section_at(location, root)
    return list(section.model_fields) if section else []


def _description(location: list[Any], root: type[BaseModel]) -> str | None:
    section = _section_at(location[:-1], root)
    field = section.model_fields.get(str(location[-1])) if section else None
    return field.description if field else None
