"""The JSON Schema of scenario files, so that editors complete and check them."""

from __future__ import annotations

import contextlib
from typing import Any

from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import SchemaError, SchemaSerializer, core_schema

from p2pl_async.basics.settings import Settings
from p2pl_async.scenario.reading.plain import without_none
from p2pl_async.scenario.reading.presets import LINK_PRESETS
from p2pl_async.scenario.scenario import Scenario


class _Generator(GenerateJsonSchema):
    """Writes defaults as a scenario does, with units, and leaves out those that TOML can't say."""

    def default_schema(self, schema: core_schema.WithDefaultSchema) -> JsonSchemaValue:
        written = super().default_schema(schema)
        value = written.pop("default", None)
        given = schema.get("default")
        if isinstance(given, Settings):
            value = without_none(given.model_dump(mode="json", by_alias=True))
        elif given is None or isinstance(given, int | float):
            with contextlib.suppress(SchemaError):  # a table that several keys share: no word stands for its None
                value = SchemaSerializer(schema["schema"]).to_python(given, mode="json")
        return written if value is None else {**written, "default": value}


def scenario_schema() -> dict[str, Any]:
    """Return the JSON Schema (draft 2020-12) of what a scenario file can say."""
    schema = Scenario.model_json_schema(by_alias=True, schema_generator=_Generator)
    definitions = schema["$defs"]
    preset = {"enum": list(LINK_PRESETS), "description": "a radio whose values hold where this table gives none"}
    link, override = definitions["LinkTableSettings"], definitions["LinkOverride"]
    link["properties"]["preset"] = definitions["AirLink"]["properties"]["preset"] = preset
    keys = {key: value for key, value in link["properties"].items() if key != "override"}
    override["properties"] = {**override["properties"], **{key: _partial(value) for key, value in keys.items()}}
    override["additionalProperties"] = False
    extends = {"type": "string", "description": "another scenario, under everything that this one says"}
    schema["properties"]["extends"] = extends
    for name, part in [*schema["properties"].items(), *definitions.items()]:
        if name not in _WHOLE:
            _allow_parts(part)
    del schema["required"]
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


_WHOLE = ("event", "RadioOverride")  # items of lists, which nothing completes


def _allow_parts(schema: Any) -> None:
    """Require no key any more: what a table leaves out, `kind` too, may be in a preset or a file that is extended."""
    if isinstance(schema, list):
        for item in schema:
            _allow_parts(item)
    elif isinstance(schema, dict):
        if "properties" in schema:
            schema.pop("required", None)
        for item in schema.values():
            _allow_parts(item)


def _partial(value: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of a key in an override, where a table may also give only some of its keys."""
    described = {key: value[key] for key in ("description",) if key in value}
    return {"anyOf": [{key: item for key, item in value.items() if key != "default"}, {"type": "object"}], **described}
