"""What packages of others may get wrong; each must be told and stop nothing."""

from typing import ClassVar

from pydantic import ConfigDict, Field

from nomaflow.steps.base import Step


class NotAStep:
    pass


class OtherName(Step):
    """Calls itself otherwise than its entry point."""

    type_name: ClassVar[str] = "something_else"
    title: ClassVar[str] = "x"


class Untitled(Step):
    """Has no title."""

    type_name: ClassVar[str] = "untitled"


class TakesCommon(Step):
    """Has a setting that every step has."""

    type_name: ClassVar[str] = "takes_common"
    title: ClassVar[str] = "x"

    retry: int = Field(1, description="x")


class Unspeakable(Step):
    """Has a setting that no editor could be told of."""

    model_config = ConfigDict(arbitrary_types_allowed=True)
    type_name: ClassVar[str] = "unspeakable"
    title: ClassVar[str] = "x"

    thing: NotAStep = Field(description="x")


class Http(Step):
    """Takes a name of ours."""

    type_name: ClassVar[str] = "http"
    title: ClassVar[str] = "x"
