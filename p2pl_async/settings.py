"""What every table of a scenario is made of: frozen settings, and tables chosen by `kind`."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError, core_schema


class Settings(BaseModel):
    """A table of a scenario: checked when made, never changed, no unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)


def nearest(name: str, known: Iterable[str]) -> str | None:
    """Return the known name most like `name`, or None if nothing is close."""
    return next(iter(difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)), None)


def kind_of(settings: type[Settings]) -> str:
    """Return the name by which a scenario chooses this class: the default of its `kind`."""
    return str(settings.model_fields["kind"].default)


class OneOf:
    """Annotates a field whose table is one of several settings classes, chosen by `kind`.

    A bare string is short for a table with that kind alone: `mode = "fresh"`. A class that
    names a field in `shorthand` also takes that field's bare value: `latency = "20 ms"`.

    Args:
        what: how errors call it, such as "topology".
        classes: settings classes, each with a `kind: Literal["..."] = "..."`.
        shorthand: turns any other value that is not a table into one; its ValueError is an
            error of the field.
        outside: loads the class behind a kind such as `"file.py:Class"`.
    """

    def __init__(
        self,
        what: str,
        *classes: type[Any],
        shorthand: Callable[[Any], Mapping[str, Any]] | None = None,
        outside: Callable[[str], type[Any]] | None = None,
    ) -> None:
        self.what = what
        self.classes = {kind_of(cls): cls for cls in classes}
        self.shorthand = shorthand
        self.outside = outside

    def validate(self, value: Any) -> Any:
        """Return the settings that `value` describes; raises what pydantic collects."""
        if isinstance(value, Settings):
            return value
        if isinstance(value, str) and (value in self.classes or self.shorthand is None):
            value = {"kind": value}
        elif not isinstance(value, Mapping) and self.shorthand is not None:
            value = self.shorthand(value)
        if not isinstance(value, Mapping):
            raise self._error('must be a table with a "kind"')
        kind = value.get("kind")
        if not isinstance(kind, str):
            raise self._error('needs a "kind"')
        if ":" in kind and self.outside is not None:
            return self.outside(kind).model_validate({**value, "kind": kind})
        if kind not in self.classes:
            guess = nearest(kind, self.classes)
            raise self._error(f'unknown {self.what} "{kind}"' + (f'; did you mean "{guess}"?' if guess else ";"))
        return self.classes[kind].model_validate(dict(value))

    def _error(self, text: str) -> PydanticCustomError:
        return PydanticCustomError("kind", "{text}  known: {known}", {"text": text, "known": ", ".join(self.classes)})

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(
            self.validate,
            serialization=core_schema.plain_serializer_function_ser_schema(
                lambda settings: settings.model_dump(mode="json")
            ),
        )

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        tables = [cls.model_json_schema(ref_template="#/$defs/{model}") for cls in self.classes.values()]
        for table in tables:
            table["required"] = ["kind"]
        return {"anyOf": [{"enum": list(self.classes)}, *tables, *([{"type": "string"}] if self.shorthand else [])]}
