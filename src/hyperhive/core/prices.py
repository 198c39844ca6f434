"""What models cost: a table by the beginning of a model's name, and how an operator writes one. Pure.

Money here is whole millionths of a US dollar: a price in dollars for a million tokens is one of those for a token.
"""

import difflib
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from decimal import Decimal
from typing import Any, cast

from hyperhive.core.budgets import Tokens
from hyperhive.core.errors import InvalidInputError

# US dollars for a million tokens.
PRICE_LIMIT_USD = 100_000
FILE_LIMIT_BYTES = 256 * 1024
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@-]{0,199}")
_EXAMPLE = "[claude-opus-4-5]\ninput = 5\noutput = 25\ncache_write = 6.25\ncache_read = 0.5"
# Prices are kept in whole thousandths of a millionth, so that no sum depends on how it is added up.
_NANO = 1000


@dataclass(frozen=True, slots=True)
class Price:
    """US dollars for a million tokens of each kind, as nano-dollars for one."""

    input: int
    output: int
    cache_write: int
    cache_read: int

    def cost_micro_usd(self, tokens: Tokens) -> int:
        """What `tokens` cost, rounded up: nothing that costs something is free."""
        nano_usd = (
            tokens.input * self.input
            + tokens.output * self.output
            + tokens.cache_write * self.cache_write
            + tokens.cache_read * self.cache_read
        )
        return -(-nano_usd // _NANO)


KEYS = tuple(field.name for field in fields(Price))


def make_price(*usd: str) -> Price:
    """A price from input, output, cache write and cache read, in US dollars for a million tokens."""
    return Price(*(round(Decimal(value) * _NANO) for value in usd))


_OPUS_4 = make_price("15", "75", "18.75", "1.5")
_OPUS = make_price("5", "25", "6.25", "0.5")
_SONNET = make_price("3", "15", "3.75", "0.3")
_MYTHOS_5 = make_price("10", "50", "12.5", "1")
_MYTHOS_5_1 = make_price("10", "50", "12.5", "0.25")
_MYTHOS_5_2 = make_price("8", "40", "10", "0.2")

# Anthropic's list prices as Claude Code 2.1.329 knew them (November 2026), with cache writes as those for five
# minutes. They change: an operator's prices.toml counts more than this table. What is not in either is unknown.
DEFAULT_PRICES: Mapping[str, Price] = {
    "claude-3-haiku": make_price("0.25", "1.25", "0.3", "0.03"),
    "claude-3-5-haiku": make_price("0.8", "4", "1", "0.08"),
    "claude-haiku-4-5": make_price("1", "5", "1.25", "0.1"),
    # What it costs for prompts above 100,000 tokens: below, it is a fifth. A budget rather counts too much.
    "claude-haiku-5-5": make_price("0.5", "2.5", "0.625", "0.05"),
    "claude-3-sonnet": _SONNET,
    "claude-3-5-sonnet": _SONNET,
    "claude-3-7-sonnet": _SONNET,
    "claude-sonnet-4-0": _SONNET,
    "claude-sonnet-4-20250514": _SONNET,
    "claude-sonnet-4-5": _SONNET,
    "claude-sonnet-4-6": _SONNET,
    "claude-sonnet-5": make_price("2", "10", "2.5", "0.2"),
    "claude-sonnet-5-5": make_price("2", "10", "2.5", "0.1"),
    "claude-3-opus": _OPUS_4,
    "claude-opus-4-0": _OPUS_4,
    "claude-opus-4-20250514": _OPUS_4,
    "claude-opus-4-1": _OPUS_4,
    "claude-opus-4-5": _OPUS,
    "claude-opus-4-6": _OPUS,
    "claude-opus-4-7": _OPUS,
    "claude-opus-4-8": _OPUS,
    "claude-opus-5": _OPUS,
    "claude-opus-5-5": make_price("4", "20", "5", "0.2"),
    "claude-fable-5": _MYTHOS_5,
    "claude-fable-5-1": _MYTHOS_5_1,
    "claude-fable-5-2": _MYTHOS_5_2,
    "claude-mythos-5": _MYTHOS_5,
    "claude-mythos-5-1": _MYTHOS_5_1,
    "claude-mythos-5-2": _MYTHOS_5_2,
}


@dataclass(frozen=True, slots=True)
class PriceTable:
    """Rows by the beginning of a model's name."""

    rows: Mapping[str, Price]

    def find(self, model: str) -> Price | None:
        """The row with the longest beginning of `model`, which ends there or where no letter or digit follows."""
        names = [name for name in self.rows if model.startswith(name) and not model[len(name) :][:1].isalnum()]
        return self.rows[max(names, key=len)] if names else None

    def find_cost(self, model: str, tokens: Tokens) -> int | None:
        """What `tokens` of `model` cost in millionths of a dollar; None for a model without a row."""
        price = self.find(model)
        return None if price is None else price.cost_micro_usd(tokens)

    def highest_cost(self, tokens: Tokens) -> int:
        """What `tokens` cost at most, whatever the model, 0 with an empty table."""
        return max((price.cost_micro_usd(tokens) for price in self.rows.values()), default=0)


DEFAULT_TABLE = PriceTable(DEFAULT_PRICES)


def parse_prices(content: bytes) -> PriceTable:
    """The table of a `prices.toml`: its rows and, for all other models, the default ones.

    Raises InvalidInputError with the line, where there is one, for anything that is not a price.
    """
    text, document = _parse_toml(content)
    rows: dict[str, Price] = {}
    for name, row in document.items():
        if not _NAME.fullmatch(name):
            raise _error(text, name, f"{name[:80]!r} is not the beginning of a model's name")
        if not isinstance(row, dict):
            raise _error(text, name, f"{name!r} is no table with prices")
        rows[name] = _parse_row(text, name, cast("dict[str, Any]", row))
    return PriceTable({**DEFAULT_PRICES, **rows})


def _parse_toml(content: bytes) -> tuple[str, dict[str, Any]]:
    if len(content) > FILE_LIMIT_BYTES:
        raise InvalidInputError(f"it has more than {FILE_LIMIT_BYTES:,} bytes", "leave out what is not needed")
    try:
        text = content.decode("utf-8")
        return text, tomllib.loads(text)
    except UnicodeDecodeError as error:
        raise InvalidInputError("it is not UTF-8 text", "write it anew") from error
    # A number of thousands of digits, and what is nested too deeply.
    except (ValueError, RecursionError) as error:
        raise InvalidInputError(f"it is no TOML: {str(error)[:200]}", f"a price is written so:\n{_EXAMPLE}") from error


def _parse_row(text: str, name: str, row: Mapping[str, Any]) -> Price:
    for key in row:
        if key not in KEYS:
            close = difflib.get_close_matches(key, KEYS, 1)
            meant = f", did you mean {close[0]!r}?" if close else ""
            raise _error(text, key, f"{key[:80]!r} of {name!r} is not a key of a price{meant}", below=name)
    missing = [key for key in KEYS if key not in row]
    if missing:
        raise _error(text, name, f"{name!r} lacks {', '.join(missing)}")
    return Price(*(_parse_usd(text, name, key, row[key]) for key in KEYS))


def _parse_usd(text: str, name: str, key: str, value: object) -> int:
    # Also False for nan.
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= PRICE_LIMIT_USD:
        raise _error(text, key, f"{key!r} of {name!r} is not a price from 0 to {PRICE_LIMIT_USD:,} dollars", below=name)
    return round(Decimal(str(value)) * _NANO)


def _error(text: str, key: str, message: str, below: str = "") -> InvalidInputError:
    line = _find_line(text, key, below)
    where = f"line {line}: " if line else ""
    return InvalidInputError(f"{where}{message}", f"a price is written so:\n{_EXAMPLE}")


def _find_line(text: str, key: str, below: str) -> int:
    """Where `key` probably stands, after the first line that names `below`; 0 if it is written in some other way."""
    lines = text.splitlines()
    start = next((number for number, line in enumerate(lines) if below and below in line), 0)
    pattern = re.compile(rf"(^|[\s\[\"'{{,.]){re.escape(key)}($|[\s\]\"'=.])")
    return next((number + 1 for number in range(start, len(lines)) if pattern.search(lines[number])), 0)
