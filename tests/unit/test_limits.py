"""Amounts of memory as an agent's config writes them."""

import pytest

from hyperhive.core.limits import Limits, parse_default_limits, parse_memory_bytes


@pytest.mark.parametrize(("text", "amount"), [("1K", 1024), ("512M", 536_870_912), ("2G", 2 << 30), ("1T", 1 << 40)])
def test_an_amount_is_so_many_bytes(text: str, amount: int) -> None:
    assert parse_memory_bytes(text) == amount


@pytest.mark.parametrize("text", ["", "0M", "1", "1.5G", "2g", "-1G", "2G ", "1E", "9999999M"])
def test_what_is_no_amount_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"amount|empty"):
        parse_memory_bytes(text)


@pytest.mark.parametrize(("text", "amount"), [("80%", 800), ("100%", 1000), ("1%", 10), ("2K", 2048), ("", None)])
def test_a_default_is_an_amount_or_a_part_of_what_there_is_or_nothing(text: str, amount: int | None) -> None:
    assert parse_default_limits(text, 0, 0, 1000) == Limits(amount, None, None)
    assert parse_default_limits(text, 1.5, 20, 1000) == Limits(amount, 1.5, 20)


@pytest.mark.parametrize("text", ["0%", "101%", "%", "-5%", "5.5%", "\u0665%"])
def test_what_is_no_part_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="amount"):
        parse_default_limits(text, 0, 0, 1000)
