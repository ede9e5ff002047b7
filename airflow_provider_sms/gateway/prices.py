"""What points cost, in whatever currency they are paid in. Pure functions."""

from __future__ import annotations

from decimal import Decimal, InvalidOperation

_FINEST = Decimal("0.0001")
_HIGHEST = Decimal(1_000_000)


def read_price(text: str) -> Decimal:
    """Read the price of a point.

    :param text: a decimal number such as `0.05`.
    :raises ValueError: it is none, negative or absurd.
    """
    try:
        price = Decimal(text.strip())
    except InvalidOperation:
        price = Decimal(-1)
    if not price.is_finite() or not 0 <= price <= _HIGHEST:
        raise ValueError("not a price: write it like 0.05.")
    return price


def cost(points: int, price: Decimal) -> str:
    """What points cost, with two to four digits after the point.

    :param price: of one point.
    """
    whole, _, digits = f"{(price * points).quantize(_FINEST):f}".partition(".")
    return f"{whole}.{digits.rstrip('0').ljust(2, '0')}"


def shown(price: Decimal) -> str:
    """A price as people write it."""
    return f"{price:f}"
