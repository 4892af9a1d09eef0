"""The JSON schema of a document that programs read, such as `answer.json`."""

import json
from typing import Any, Final

from pydantic import TypeAdapter

_DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"


def write_schema(kind: Any) -> str:
    """The schema of a section, or of a union of several, as the text of a file."""
    schema = {"$schema": _DIALECT, **TypeAdapter(kind).json_schema()}
    return json.dumps(schema, indent=1, ensure_ascii=False) + "\n"
