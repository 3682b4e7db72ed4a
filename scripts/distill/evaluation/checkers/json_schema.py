"""An answer is JSON that meets a schema."""

import json
import re
from typing import Any

_FENCED = re.compile(r"^```(?:json)?\s*\n(.*?)\n?```$", re.DOTALL)


def passes(answer: str, schema: dict[str, Any]) -> bool:
    """Whether the answer, or the fenced block that it is, is JSON that meets the schema.

    Raises:
        jsonschema.SchemaError: The schema is malformed.
    """
    from jsonschema import validators

    validator = validators.validator_for(schema)
    validator.check_schema(schema)
    text = answer.strip()
    fenced = _FENCED.match(text)
    try:
        value = json.loads(fenced.group(1) if fenced else text)
    except ValueError:
        return False
    return bool(validator(schema).is_valid(value))
