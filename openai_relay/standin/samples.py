"""A small value that fits a JSON schema: what the stand-in calls functions with and answers in structured output."""

from __future__ import annotations

from typing import Any, Final

import msgspec

#: Deeper than this a schema describes itself, and its instance stops.
DEEPEST: Final = 12
#: Values in one sample; a schema that refers to itself in several places would ask for millions.
MOST_VALUES: Final = 1_000
MOST_ITEMS: Final = 16


def sample_text(schema: Any) -> str:
    """The value as JSON; an empty object where there is no schema."""
    return msgspec.json.encode(_Sample(schema).value(schema, 0) if schema else {}).decode()


class _Sample:
    """One value in the making; ``root`` is what references start from."""

    def __init__(self, root: Any) -> None:
        self._root = root
        self._left = MOST_VALUES

    def value(self, schema: Any, depth: int) -> Any:
        schema = self._resolved(schema)
        self._left -= 1
        if not isinstance(schema, dict) or depth > DEEPEST or self._left < 0:
            return None
        for key in ("const", "default"):
            if key in schema:
                return schema[key]
        for key in ("anyOf", "oneOf", "allOf"):
            if _is_filled(schema.get(key)):
                return self.value(schema[key][0], depth + 1)
        if _is_filled(schema.get("enum")):
            return schema["enum"][0]
        return self._typed(schema, depth)

    def _typed(self, schema: dict[str, Any], depth: int) -> Any:
        kind = schema.get("type")
        kind = kind[0] if isinstance(kind, list) and kind else kind
        properties = schema.get("properties")
        if isinstance(properties, dict):
            return {name: self.value(inner, depth + 1) for name, inner in properties.items()}
        if kind == "array":
            least = schema.get("minItems")
            count = min(least, MOST_ITEMS) if isinstance(least, int) and least > 0 else 1
            return [self.value(schema.get("items"), depth + 1)] * count
        simple = {
            "object": {},
            "string": "stand-in",
            "integer": schema.get("minimum", 1),
            "number": schema.get("minimum", 1.5),
            "boolean": True,
        }
        return simple.get(str(kind))

    def _resolved(self, schema: Any) -> Any:
        """Follow ``$ref`` inside the same document (``#/$defs/Name``), as the SDKs write nested models."""
        for _ in range(DEEPEST):
            if not isinstance(schema, dict) or not isinstance(schema.get("$ref"), str):
                return schema
            target = self._root
            for part in schema["$ref"].removeprefix("#").strip("/").split("/"):
                target = target.get(part) if isinstance(target, dict) and part else target
            schema = target
        return None


def _is_filled(value: Any) -> bool:
    return isinstance(value, list) and bool(value)
