"""Settings: tables chosen by kind, shorthands, and what is said about wrong ones."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

import pytest
from pydantic import PlainSerializer, ValidationError
from pydantic_core import PydanticSerializationError

from p2pl_async.basics.settings import (
    OneOf,
    Settings,
    Short,
    inner_class,
    kind_of,
    line,
    marker,
    mistakes,
    moved,
    nearest,
    word,
)


class Square(Settings):
    """Four equal sides."""

    kind: Literal["square"] = "square"
    side: float = 1.0


class Circle(Settings):
    """Round."""

    kind: Literal["circle"] = "circle"
    radius: float


class Star(Settings):
    """Not one of ours."""

    kind: Literal["star"] = "star"
    points: int = 5


def load(spec: str) -> type[Any]:
    if spec != "mine:Star":
        raise ValueError("no such class")
    return Star


class Picture(Settings):
    shape: Annotated[Settings, OneOf("shape", Square, Circle)] = Square()
    size: Annotated[
        Settings, OneOf("size", Square, Circle, shorthand=lambda value: {"kind": "circle", "radius": value})
    ] = Square()
    free: Annotated[Settings, OneOf("shape", Square, outside=load)] | None = None
    border: Annotated[Square, Short("side")] = Square()
    every: Annotated[float | None, *word("never")] = None
    many: dict[str, Square] = {}  # noqa: RUF012 (pydantic copies it)
    plain: ClassVar[int] = 0


def details(**values: object) -> list[tuple[tuple[str | int, ...], str]]:
    with pytest.raises(ValidationError) as caught:
        Picture.model_validate(values)
    return [(detail["loc"], detail["msg"]) for detail in caught.value.errors()]


def test_a_table_is_of_the_class_that_its_kind_names() -> None:
    assert Picture.model_validate({"shape": {"kind": "circle", "radius": 2.0}}).shape == Circle(radius=2.0)


def test_a_bare_kind_is_a_table_with_that_kind_alone() -> None:
    assert Picture.model_validate({"shape": "square"}).shape == Square()


def test_a_shorthand_stands_for_a_table() -> None:
    assert Picture.model_validate({"size": 3.0, "border": 4.0}).size == Circle(radius=3.0)
    assert Picture.model_validate({"border": 4.0}).border == Square(side=4.0)


def test_an_instance_is_taken_as_it_is() -> None:
    circle = Circle(radius=1.0)
    assert Picture(shape=circle).shape is circle
    assert details(shape=Star()) == [(("shape",), "must be a shape, not a Star")]


def test_a_kind_from_outside_makes_a_class_that_carries_its_name() -> None:
    star = Picture.model_validate({"free": {"kind": "mine:Star", "points": 7}}).free
    assert isinstance(star, Star)
    assert star.model_dump() == {"kind": "mine:Star", "points": 7}
    again = Picture.model_validate({"free": {"kind": "mine:Star", "points": 7}}).free
    assert again == star
    assert Picture.model_validate({"free": "mine:Star"}).free != star


@pytest.mark.parametrize(
    ("values", "where", "says"),
    [
        (
            {"shape": {"kind": "sqare"}},
            ("shape", "kind"),
            'unknown shape; did you mean "square"?  known: square, circle',
        ),
        ({"shape": "sqare"}, ("shape",), 'unknown shape; did you mean "square"?  known: square, circle'),
        ({"shape": "hexagon"}, ("shape",), "unknown shape;  known: square, circle"),
        ({"shape": {"side": 1}}, ("shape",), 'needs a "kind"  known: square, circle'),
        ({"shape": {"kind": 3}}, ("shape", "kind"), "must be a text  known: square, circle"),
        ({"shape": 3}, ("shape",), 'must be a table with a "kind"  known: square, circle'),
        ({"free": "mine:Moon"}, ("free", "kind"), "no such class"),
    ],
)
def test_a_wrong_kind_is_one_error_that_names_what_there_is(
    values: dict[str, object], where: tuple[str, ...], says: str
) -> None:
    assert details(**values) == [(where, says)]


def test_errors_inside_a_chosen_table_keep_their_path() -> None:
    assert [where for where, _ in details(shape={"kind": "circle", "radius": "x", "side": 1})] == [
        ("shape", "radius"),
        ("shape", "side"),
    ]


def test_a_word_stands_for_none_both_ways() -> None:
    assert Picture.model_validate({"every": "never"}).every is None
    assert Picture(every=None).model_dump(mode="json")["every"] == "never"
    assert Picture(every=2.0).model_dump(mode="json")["every"] == 2.0


def test_settings_never_change_and_know_their_keys() -> None:
    square = Square()
    with pytest.raises(ValidationError, match="frozen"):
        square.side = 2.0  # type: ignore[misc]  # what is tested
    with pytest.raises(ValidationError, match="Extra inputs"):
        Square.model_validate({"sides": 2})
    with pytest.raises(ValidationError, match="finite"):
        Square(side=float("nan"))


def test_helpers_find_what_a_field_holds() -> None:
    fields = Picture.model_fields
    assert isinstance(marker(fields["shape"]), OneOf)
    assert isinstance(marker(fields["free"]), OneOf)
    assert isinstance(marker(fields["border"]), Short)
    assert marker(fields["many"]) is None
    assert inner_class(fields["many"]) is Square
    assert inner_class(fields["every"]) is None
    assert kind_of(Circle) == "circle"
    assert nearest("sqare", ["square", "circle"]) == "square"
    assert nearest("zzz", ["square", "circle"]) is None


def test_moved_errors_keep_their_text() -> None:
    with pytest.raises(ValidationError) as caught:
        Circle.model_validate({"radius": "x"})
    lines = [moved(caught.value.errors()[0], ["a", 0]), line(["b"], "is {odd}", 1)]
    found = mistakes("both", lines).errors()
    assert [(detail["loc"], detail["type"], detail["msg"]) for detail in found] == [
        (("a", 0), "float_parsing", caught.value.errors()[0]["msg"]),
        (("b",), "mistake", "is {odd}"),
    ]


def test_the_json_schema_has_every_kind_and_hoists_definitions() -> None:
    schema = Picture.model_json_schema()
    shape = schema["properties"]["shape"]["anyOf"]
    assert shape[0] == {"enum": ["square", "circle"]}
    tables = [
        schema["$defs"][option["$ref"].rpartition("/")[2]] if "$ref" in option else option for option in shape[1:]
    ]
    assert [table["required"] for table in tables] == [["kind"], ["kind", "radius"]]
    assert {"const": "never"} in schema["properties"]["every"]["anyOf"]


@pytest.mark.parametrize("error", [KeyboardInterrupt(), ZeroDivisionError("three")])
@pytest.mark.parametrize("depth", [1, 2])
def test_ctrl_c_while_a_table_is_written_is_no_error_of_pydantic(error: BaseException, depth: int) -> None:
    def fail(_: int) -> int:
        raise error

    class Inner(Settings):
        number: Annotated[int, PlainSerializer(fail)] = 1

    class Outer(Settings):
        inner: Annotated[Inner, PlainSerializer(lambda inner: inner.model_dump(mode="json"))] = Inner()

    expected = KeyboardInterrupt if isinstance(error, KeyboardInterrupt) else PydanticSerializationError
    with pytest.raises(expected):
        (Outer() if depth == 2 else Inner()).model_dump(mode="json")
