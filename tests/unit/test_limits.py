"""Amounts of memory as an agent's config writes them."""

import pytest

from hyperhive.core.limits import parse_memory_bytes


@pytest.mark.parametrize(("text", "amount"), [("1K", 1024), ("512M", 536_870_912), ("2G", 2 << 30), ("1T", 1 << 40)])
def test_an_amount_is_so_many_bytes(text: str, amount: int) -> None:
    assert parse_memory_bytes(text) == amount


@pytest.mark.parametrize("text", ["", "0M", "1", "1.5G", "2g", "-1G", "2G ", "1E", "9999999M"])
def test_what_is_no_amount_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"amount|empty"):
        parse_memory_bytes(text)
