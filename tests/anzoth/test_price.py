"""Are prices and costs exact?"""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anzoth.price import (
    NANOS_PER_UNIT,
    Price,
    PriceError,
    decimal,
    parse_amount,
    shortest_decimal,
)

MICROS = st.integers(0, 10**12 - 1)
TOKENS = st.integers(0, 10**7)


def test_decimal_text_becomes_whole_micro_units() -> None:
    table = {"input": "0.15", "cached_input": "0.000001", "output": "12"}
    assert Price.parse(table, has_output=True) == Price(150_000, 1, 12_000_000)


@given(MICROS, MICROS, MICROS)
def test_a_price_is_shown_as_it_can_be_read(input: int, cached_input: int, output: int) -> None:
    price = Price(input, cached_input, output)
    assert Price.parse(price.shown(), has_output=True) == price


def test_cached_tokens_cost_what_others_do_unless_they_have_a_price() -> None:
    assert Price.parse({"input": "2"}, has_output=False) == Price(2_000_000, 2_000_000, 0)


@given(MICROS)
def test_every_price_is_read_as_it_is_written(micros: int) -> None:
    text = f"{micros // 10**6}.{micros % 10**6:06}"
    assert Price.parse({"input": text}, has_output=False).input == micros


@pytest.mark.parametrize("value", [0.15, 1, True, None, "", "-1", "1e3", ".5", "1.", "0.1234567"])
def test_anything_but_decimal_text_is_refused(value: object) -> None:
    with pytest.raises(PriceError, match="decimal number as text"):
        Price.parse({"input": value}, has_output=False)


def test_missing_and_unknown_parts_are_refused() -> None:
    with pytest.raises(PriceError, match="no 'output'"):
        Price.parse({"input": "1"}, has_output=True)
    with pytest.raises(PriceError, match="no 'input'"):
        Price.parse({"output": "1"}, has_output=False)
    for table in ({"input": "1", "outptu": "1"}, "1", None):
        with pytest.raises(PriceError, match="a table of"):
            Price.parse(table, has_output=False)


@given(MICROS, MICROS, MICROS, TOKENS, TOKENS, TOKENS)
def test_each_part_is_within_half_a_nano_unit_of_the_exact_cost(
    input: int, cached_input: int, output: int, fresh: int, cached: int, written: int
) -> None:
    cost = Price(input, cached_input, output).cost(fresh + cached, cached, written)
    parts = ((fresh, input, cost.input), (cached, cached_input, cost.cached_input))
    for tokens, price, nanos in (*parts, (written, output, cost.output)):
        exact = Fraction(tokens * price * NANOS_PER_UNIT, 10**6 * 10**6)
        assert -Fraction(1, 2) < nanos - exact <= Fraction(1, 2)
        if price % 1000 == 0:
            assert nanos == exact
    assert cost.total == cost.input + cost.cached_input + cost.output


@given(MICROS, MICROS, MICROS, st.integers(0, 60), TOKENS)
def test_the_highest_cost_is_that_of_the_dearest_way_or_one_nano_unit_more(
    input: int, cached_input: int, output: int, prompt: int, written: int
) -> None:
    price = Price(input, cached_input, output)
    dearest = max(price.cost(prompt, cached, written).total for cached in range(prompt + 1))
    highest = price.highest_cost(prompt, written)
    assert dearest <= highest <= dearest + 1
    if input % 1000 == cached_input % 1000 == 0:
        assert highest == dearest


@given(st.integers(1, 10**12 - 1), st.integers(0, 10**15))
def test_affordable_output_is_the_most_that_fits(output: int, nanos: int) -> None:
    price = Price(0, 0, output)
    most = price.affordable_output(nanos)
    assert most is not None
    assert price.highest_cost(0, most) <= nanos < price.highest_cost(0, most + 1)
    assert Price(1, 1, 0).affordable_output(nanos) is None


@given(st.integers(0, 10**18 - 1))
def test_amounts_are_read_as_they_are_written(nanos: int) -> None:
    assert parse_amount(decimal(nanos)) == parse_amount(shortest_decimal(nanos)) == nanos


def test_people_write_amounts_without_zeros() -> None:
    texts = ("25.50", "7", "0.000000001", "100")
    shown = [shortest_decimal(parse_amount(text)) for text in texts]
    assert shown == ["25.5", "7", "0.000000001", "100"]


@pytest.mark.parametrize("text", ["", "-1", "1e3", ".5", "1.", "0.0000000001", "1_000", "1,5", "١"])
def test_anything_but_an_exact_amount_is_refused(text: str) -> None:
    with pytest.raises(PriceError, match="expected a decimal number"):
        parse_amount(text)
