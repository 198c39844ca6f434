"""What a model costs, and what an operator may write about it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hyperhive.core.budgets import Tokens
from hyperhive.core.errors import InvalidInputError
from hyperhive.core.prices import DEFAULT_PRICES, DEFAULT_TABLE, PriceTable, make_price, parse_prices

ROW = "[{name}]\ninput = 1\noutput = 2\ncache_write = 3\ncache_read = 4\n"


def test_a_million_tokens_of_each_kind_cost_what_the_row_says() -> None:
    table = PriceTable({"m": make_price("3", "15", "3.75", "0.3")})
    million = 1_000_000
    assert table.find_cost("m", Tokens(input=million)) == 3_000_000
    assert table.find_cost("m", Tokens(output=million)) == 15_000_000
    assert table.find_cost("m", Tokens(cache_write=million)) == 3_750_000
    assert table.find_cost("m", Tokens(cache_read=million)) == 300_000
    # A single token is not free.
    assert table.find_cost("m", Tokens(cache_read=1)) == 1


@pytest.mark.parametrize(
    ("model", "row"),
    [
        ("claude-opus-4-1-20250805", "claude-opus-4-1"),
        ("claude-opus-4-20250514", "claude-opus-4-20250514"),
        ("claude-opus-4-5-20251101", "claude-opus-4-5"),
        ("claude-sonnet-5-5", "claude-sonnet-5-5"),
        ("claude-sonnet-5-20260301", "claude-sonnet-5"),
        ("claude-sonnet-4-5[1m]", "claude-sonnet-4-5"),
        ("claude-opus-4-15", None),
        ("claude-opus-4", None),
        ("claude-test", None),
        ("", None),
        ("gpt", None),
    ],
)
def test_the_longest_beginning_of_a_models_name_counts(model: str, row: str | None) -> None:
    assert DEFAULT_TABLE.find(model) is (None if row is None else DEFAULT_PRICES[row])


def test_an_unknown_model_has_no_cost_and_at_most_the_highest() -> None:
    assert DEFAULT_TABLE.find_cost("unknown", Tokens(input=1000)) is None
    assert DEFAULT_TABLE.highest_cost(Tokens(output=1_000_000)) == 75_000_000
    assert PriceTable({}).highest_cost(Tokens(output=1)) == 0


def test_a_file_adds_rows_and_replaces_those_it_names() -> None:
    table = parse_prices((ROW.format(name="claude-opus-4-5") + ROW.format(name='"qwen3.5:27b"')).encode())
    assert table.rows["claude-opus-4-5"] == table.rows["qwen3.5:27b"] == make_price("1", "2", "3", "4")
    assert table.rows["claude-sonnet-4-5"] == DEFAULT_PRICES["claude-sonnet-4-5"]
    assert parse_prices(b"").rows == DEFAULT_PRICES


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[m]\ninput = 1\noutputs = 2", "line 3: 'outputs' of 'm' is not a key of a price, did you mean 'output'?"),
        (ROW.format(name="a") + "[b]\ninput = 1\nx = 2", "line 8: 'x' of 'b' is not a key of a price"),
        ("# prices\n[m]\ninput = 1\noutput = 2", "line 2: 'm' lacks cache_write, cache_read"),
        (ROW.format(name="m").replace("= 2", "= -2"), "line 3: 'output' of 'm' is not a price from 0"),
        (ROW.format(name="m").replace("= 2", "= nan"), "line 3: 'output' of 'm' is not a price"),
        (ROW.format(name="m").replace("= 2", "= inf"), "line 3: 'output' of 'm' is not a price"),
        (ROW.format(name="m").replace("= 2", "= true"), "line 3: 'output' of 'm' is not a price"),
        (ROW.format(name="m").replace("= 2", "= '2'"), "line 3: 'output' of 'm' is not a price"),
        ("input = 3", "line 1: 'input' is no table with prices"),
        (ROW.format(name='"a b"'), "is not the beginning of a model's name"),
        ("[m\n", "it is no TOML: "),
        ("x = " + "9" * 5000, "it is no TOML: "),
        ("x = " + "[" * 5000, "it is no TOML: "),
        ("#" * 300_000, "it has more than 262,144 bytes"),
    ],
)
def test_what_is_no_price_is_refused_with_its_line(text: str, message: str) -> None:
    with pytest.raises(InvalidInputError) as refused:
        parse_prices(text.encode())
    assert message in refused.value.message
    assert refused.value.hint


@given(st.binary(max_size=200))
def test_any_file_is_prices_or_refused(content: bytes) -> None:
    try:
        assert DEFAULT_PRICES.keys() <= parse_prices(content).rows.keys()
    except InvalidInputError as error:
        assert error.message
