"""Makes the JSON Schema of `PoolStats.to_json()` from its annotations: `python -m tests.support.stats_schema --write`.

What ships is written down in a file, so that a change that does more than add shows in a diff.
"""

from __future__ import annotations

import collections.abc
import json
import sys
import types
import typing
from pathlib import Path

from pooltransport import stats

SHIPPED = Path(stats.__file__).with_name("stats.schema.json")
_PLAIN = {int: "integer", float: "number", str: "string", type(None): "null"}
_ENUMS = {
    "acquired": stats.AcquireSource,
    "drains": stats.DrainOutcome,
    "acquire_failures": stats.AcquireFailure,
    "leaks_by_found": stats.LeakFound,
    "leases_by_class": stats.Activity,
}


def make() -> dict[str, object]:
    """Return the schema."""
    names = [name for name, value in vars(stats).items() if hasattr(value, "_fields")]
    space = vars(stats) | {"Mapping": collections.abc.Mapping, "Any": typing.Any}
    defs = {name: _object(space[name], space) for name in names if name != "PoolStats"}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "pooltransport statistics, schema 1",
        "description": "What PoolStats.to_json() gives. As long as `schema` is 1, changes only add.",
        **_object(stats.PoolStats, space),
        "$defs": defs,
    }


def _object(cls: typing.Any, space: dict[str, typing.Any]) -> dict[str, object]:
    hints = typing.get_type_hints(cls, space)
    properties = {name: _field(name, hints[name]) for name in cls._fields}
    if hasattr(cls, "open"):
        properties["open"] = {"type": "integer", "minimum": 0}
    if cls is stats.PoolStats:
        properties["schema"] = {"const": 1}
    return {"type": "object", "required": sorted(properties), "properties": properties}


def _field(name: str, hint: typing.Any) -> dict[str, object]:
    if name in _ENUMS:
        keys = [member.value for member in _ENUMS[name]]
        return {"type": "object", "required": keys, "additionalProperties": {"type": "integer", "minimum": 0}}
    if name == "closed":
        keys = [member.value for member in stats.CloseReason]
        counts = {"type": "integer", "minimum": 1}
        return {"type": "object", "propertyNames": {"enum": keys}, "additionalProperties": counts}
    return _schema(hint)


def _schema(hint: typing.Any) -> dict[str, object]:
    if hint in _PLAIN:
        bound = {"minimum": 0} if hint in {int, float} else {}
        return {"type": _PLAIN[hint], **bound}
    if hint is typing.Any:
        return {}
    if hasattr(hint, "_fields"):
        return {"$ref": f"#/$defs/{hint.__name__}"}
    kind, arguments = typing.get_origin(hint), typing.get_args(hint)
    if kind in {typing.Union, types.UnionType}:
        return {"anyOf": [_schema(argument) for argument in arguments]}
    if kind is tuple:
        return {"type": "array", "items": _schema(arguments[0])}
    assert kind is collections.abc.Mapping, hint
    return {"type": "object", "additionalProperties": _schema(arguments[1])}


def validator() -> typing.Any:
    """Return what refuses a document that the shipped schema does not describe."""
    import jsonschema

    return jsonschema.Draft202012Validator(json.loads(SHIPPED.read_text(encoding="utf-8")))


def text() -> str:
    return json.dumps(make(), indent=2) + "\n"


if __name__ == "__main__":
    if "--write" in sys.argv:
        SHIPPED.write_text(text())
    else:
        print(text())
