"""What a tool of the operator's claude is: a name, what claude reads about it, its parameters, and what it does."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from pydantic import BaseModel, ConfigDict

from hyperhive.cli.client import Client, Row


class Params(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class NoParams(Params):
    """A tool that needs to be told nothing."""


P = TypeVar("P", bound=Params)


@dataclass(frozen=True, slots=True)
class Tool(Generic[P]):
    """`call` asks the hive and returns an object; it raises HiveError. `final`: what it changes cannot be undone."""

    name: str
    description: str
    params: type[P]
    call: Callable[[Client, P], Row]
    changes: bool = False
    final: bool = False


AnyTool = Tool[Any]
