"""Terminals, and what goes over their sockets beside the bytes."""

from datetime import datetime
from typing import Literal

from pydantic import Field

from hyperhive.core.terminals import ANSWER_LIMIT_CHARS, COLUMNS_LIMIT, ROWS_LIMIT, Ending
from hyperhive.wire.operator.base import Model


class TerminalRequest(Model):
    columns: int = Field(ge=1, le=COLUMNS_LIMIT)
    rows: int = Field(ge=1, le=ROWS_LIMIT)


class Terminal(Model):
    """A shell in an agent's container. It is open while `ended_at` is None."""

    id: str
    agent: str
    opened_by: str
    opened_at: datetime
    columns: int
    rows: int
    viewers: int = Field(description="How many look at it now.")
    ended_at: datetime | None
    status: int | None = Field(description="The shell's exit status; None while it is open, or when it is not known.")
    ending: Ending | None = Field(description="Why it ended.")
    bytes_in: int = Field(description="What was typed into it.")
    bytes_out: int = Field(description="What its programs wrote.")


class TerminalResize(Model):
    """From whoever looks at a terminal: this is how much room there is."""

    kind: Literal["resize"]
    columns: int = Field(ge=1, le=COLUMNS_LIMIT)
    rows: int = Field(ge=1, le=ROWS_LIMIT)


class TerminalAck(Model):
    """From whoever looks at a terminal: so many more bytes of its output are dealt with."""

    kind: Literal["ack"]
    count: int = Field(ge=1)


class TerminalAnswer(Model):
    """From whoever looks at a terminal: what that one answers by itself to what a program asked of it."""

    kind: Literal["answer"]
    text: str = Field(min_length=1, max_length=ANSWER_LIMIT_CHARS)


class TerminalReplayed(Model):
    """The next `count` bytes are what was on the terminal before: whoever shows them answers nothing in them."""

    kind: Literal["replayed"]
    count: int


class TerminalResized(Model):
    kind: Literal["resized"]
    columns: int
    rows: int


class TerminalEnded(Model):
    """The last that is said of a terminal."""

    kind: Literal["ended"]
    status: int | None
