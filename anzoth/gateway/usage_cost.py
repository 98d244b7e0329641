"""What does a usage row cost, at the prices that it keeps?

Asked twice of some rows: when a request ends, and when one is found that a killed process left.

Does not know: where prices come from.
"""

from __future__ import annotations

from dataclasses import replace

from anzoth.db.store.usage_rows import UsageRow
from anzoth.price import Price


def with_cost(row: UsageRow) -> UsageRow:
    """The same row; without prices it costs nothing."""
    if row.input_price is None or row.cached_input_price is None or row.output_price is None:
        return row
    price = Price(row.input_price, row.cached_input_price, row.output_price)
    cost = price.cost(row.prompt_tokens, row.cached_tokens, row.completion_tokens)
    return replace(
        row, input_cost=cost.input, cached_input_cost=cost.cached_input, output_cost=cost.output
    )
