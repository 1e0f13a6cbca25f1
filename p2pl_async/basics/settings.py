"""The parts of every table of a scenario: frozen settings, and tables chosen by `kind`."""

from __future__ import annotations

import difflib
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    SerializerFunctionWrapHandler,
    ValidationError,
    WrapSerializer,
    create_model,
)
from pydantic.fields import FieldInfo
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import (
    CoreSchema,
    ErrorDetails,
    InitErrorDetails,
    PydanticCustomError,
    PydanticSerializationError,
    core_schema,
)


class Settings(BaseModel):
    """A table of a scenario: checked when made, frozen, without unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, defer_build=True)

    alternatives: ClassVar[tuple[tuple[str, ...], ...]] = ()
    """Keys of which a table has only one: giving one over a table with another replaces that."""

    read_before: ClassVar[tuple[str, ...]] = ()
    """Keys that a file may have too, which its reader takes out before the table is checked."""

    def __eq__(self, other: object) -> bool:
        """Compare what the scenario says; arrays that a table has made from it, and keeps, can't be compared."""
        return (
            isinstance(other, Settings)
            and type(self) is type(other)
            and all(getattr(self, name) == getattr(other, name) for name in type(self).model_fields)
            and self.__pydantic_extra__ == other.__pydantic_extra__
        )

    def model_dump(self, **how: Any) -> dict[str, Any]:
        """Return the table's values; Ctrl-C meanwhile stays that, where pydantic makes an error of it."""
        try:
            return super().model_dump(**how)
        except PydanticSerializationError as error:
            if isinstance(error.__cause__, KeyboardInterrupt):
                raise KeyboardInterrupt from error
            raise


def nearest(name: str, known: Iterable[str]) -> str | None:
    """Return the known name most similar to `name`, or None if none is close."""
    return next(iter(difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)), None)


def kind_of(settings: type[Settings]) -> str:
    """Return the name by which a scenario chooses this class: the default of its `kind`."""
    return str(settings.model_fields["kind"].default)


def mistake(text: str) -> PydanticCustomError:
    """Return the error that a validator raises to say `text` about the value it was given."""
    return PydanticCustomError("mistake", "{text}", {"text": text})


def line(keys: Sequence[str | int], text: str, value: object = None) -> InitErrorDetails:
    """Return one problem inside a table: its place as keys from there, its text, and the value found."""
    return InitErrorDetails(type=mistake(text), loc=tuple(keys), input=value)


def moved(detail: ErrorDetails, keys: Sequence[str | int]) -> InitErrorDetails:
    """Return a detail of another `ValidationError`, placed at `keys`."""
    kind: str | PydanticCustomError = detail["type"]
    if "url" not in detail:  # only pydantic's own kinds of error have a url; others need their text
        kind = PydanticCustomError(detail["type"], "{text}", {"text": detail["msg"]})
    return InitErrorDetails(type=kind, loc=tuple(keys), input=detail["input"], ctx=detail.get("ctx", {}))


def mistakes(title: str, lines: Iterable[InitErrorDetails]) -> ValidationError:
    """Return one error for several problems inside the table called `title`."""
    return ValidationError.from_exception_data(title, list(lines))


class OneOf:
    """Annotates a field whose table is one of several settings classes, chosen by `kind`.

    A bare string is short for a table with that kind alone: `mode = "fresh"`. With a
    `shorthand`, any other bare value is short for a table too: `latency = "20 ms"`.

    Args:
        what: its name in errors, such as "topology".
        classes: settings classes, each with a `kind: Literal["..."] = "..."`.
        shorthand: turns a value that is neither a table nor a kind into a table; its
            ValueError is an error of the field.
        outside: loads the class behind a kind such as `"file.py:Class"`; its ValueError is
            an error of the field.
        found_by: instead of `classes`, kind -> class; may load a class when it is looked up.
    """

    def __init__(
        self,
        what: str,
        *classes: type[Any],
        shorthand: Callable[[Any], Mapping[str, Any]] | None = None,
        outside: Callable[[str], type[Any]] | None = None,
        found_by: Mapping[str, type[Any]] | None = None,
    ) -> None:
        self.what = what
        self.classes = {kind_of(cls): cls for cls in classes} if found_by is None else found_by
        self.shorthand = shorthand
        self.outside = outside
        self._named: dict[tuple[type[Any], str], type[Any]] = {}

    def is_kind(self, value: object) -> bool:
        """Tell whether `value` names a class: a known kind, or one to be loaded from outside."""
        return isinstance(value, str) and (value in self.classes or (self.outside is not None and ":" in value))

    def table(self, value: Any) -> Any:
        """Return the table that a shorthand stands for; other values are returned unchanged."""
        if self.is_kind(value):
            return {"kind": value}
        if self.shorthand is not None and not isinstance(value, Mapping):
            return dict(self.shorthand(value))
        return value

    def find(self, kind: str) -> type[Any]:
        """Return the class behind a kind; ValueError if there is none."""
        if kind in self.classes:
            return self.classes[kind]
        if self.outside is None or ":" not in kind:
            guess = nearest(kind, self.classes)
            hint = f'; did you mean "{guess}"?' if guess else ";"
            raise ValueError(f"unknown {self.what}{hint}  known: {', '.join(self.classes)}")
        cls = self.outside(kind)
        # A user's class may declare its own `kind: Literal["mine"]`; here its kind is the name in the scenario.
        if (cls, kind) not in self._named:
            self._named[cls, kind] = create_model(cls.__name__, __base__=cls, __doc__=cls.__doc__, kind=(str, kind))
        return self._named[cls, kind]

    def validate(self, value: Any) -> Any:
        """Return the settings that `value` describes; raises the errors that pydantic collects."""
        if isinstance(value, Settings):
            if self.outside is None and type(value) not in self.classes.values():
                raise mistake(f"must be a {self.what}, not a {type(value).__name__}")
            return value
        table = self.table(value)
        if isinstance(table, str):
            raise mistake(self._unknown(table))
        if not isinstance(table, Mapping):
            raise mistake(f'must be a table with a "kind"  known: {", ".join(self.classes)}')
        if "kind" not in table:
            raise mistake(f'needs a "kind"  known: {", ".join(self.classes)}')
        kind = table["kind"]
        try:
            cls = self.find(kind) if isinstance(kind, str) else None
        except ValueError as error:
            raise mistakes(self.what, [line(["kind"], str(error), kind)]) from error
        if cls is None:
            raise mistakes(self.what, [line(["kind"], f"must be a text  known: {', '.join(self.classes)}", kind)])
        return cls.model_validate(dict(table))

    def _unknown(self, kind: str) -> str:
        try:
            self.find(kind)
        except ValueError as error:
            return str(error)
        raise AssertionError(f"{kind} is known")

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(
            self.validate,
            serialization=core_schema.plain_serializer_function_ser_schema(
                lambda settings: settings.model_dump(mode="json", by_alias=True)
            ),
        )

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        options: list[JsonSchemaValue] = [{"enum": list(self.classes)}]
        for cls in self.classes.values():
            cls.model_rebuild()  # it is built when first used
            reference = handler(cls.__pydantic_core_schema__)  # through the handler, so that its $defs reach the top
            definition = handler.resolve_ref_schema(reference)
            definition["required"] = ["kind", *(key for key in definition.get("required", []) if key != "kind")]
            options.append(reference)
        if self.outside is not None:
            kind = {"type": "string", "pattern": ":"}
            options += [kind, {"type": "object", "properties": {"kind": kind}, "required": ["kind"]}]
        if self.shorthand is not None:
            options.append({"type": ["string", "number"]})
        return {"anyOf": options}


class Short:
    """Annotates a table that a bare value stands for: `start = "5 s"` is `start = { at = "5 s" }`.

    Args:
        key: the key of the table that takes the value.
    """

    def __init__(self, key: str) -> None:
        self.key = key

    def table(self, value: Any) -> Any:
        """Return the table that a bare value stands for; other values are returned unchanged."""
        return value if isinstance(value, Mapping | Settings) else {self.key: value}

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_before_validator_function(self.table, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return {"anyOf": [handler(schema), {"type": ["string", "number"]}]}


def word(text: str) -> tuple[BeforeValidator, WrapSerializer, WithWord]:
    """Return the metadata of an optional value; a scenario writes this word for None: `every = "auto"`."""

    def write(value: Any, handler: SerializerFunctionWrapHandler) -> Any:
        return text if value is None else handler(value)

    return BeforeValidator(lambda value: None if value == text else value), WrapSerializer(write), WithWord(text)


class WithWord:
    """Adds the word of `word` to the JSON Schema."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return {"anyOf": [{"const": self.text}, handler(schema)]}


def marker(field: FieldInfo) -> OneOf | Short | None:
    """Return the `OneOf` or `Short` that a field is annotated with, also inside `... | None`; else None."""
    return next(
        (item for item in [*field.metadata, *_leaves(field.annotation)] if isinstance(item, OneOf | Short)), None
    )


def word_of(field: FieldInfo) -> str | None:
    """Return the word that a scenario writes for None in a field, if it has one."""
    return next((item.text for item in field.metadata if isinstance(item, WithWord)), None)


def inner_class(field: FieldInfo) -> type[Settings] | None:
    """Return the settings class of a field, or of its items or values, if it isn't chosen by kind."""
    leaves = _leaves(field.annotation)
    return next((item for item in leaves if isinstance(item, type) and issubclass(item, Settings)), None)


def _leaves(annotation: Any) -> Iterator[Any]:
    """Yield all parts of an annotation such as `Annotated[A | None, x]`."""
    yield annotation
    for item in typing.get_args(annotation):
        yield from _leaves(item)


def unknown_key(key: str, known: Iterable[str]) -> str:
    """Return the text of the problem for a key that a table doesn't have."""
    known = list(known)
    guess = nearest(key, known)
    return f'unknown key; did you mean "{guess}"?' if guess else f"unknown key; known: {', '.join(known)}"
