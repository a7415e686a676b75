"""Numbers and settings as they are said to a person."""

import json
from collections.abc import Mapping
from typing import Any


def number(value: float) -> str:
    """A number of an axis: 20k, 1,500, 0.075."""
    if abs(value) >= 10_000:
        return f"{value / 1000:,.5g}k"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.5g}"


def duration(seconds: float) -> str:
    """A time as it is said: 42 s, 3 min 20 s, 2 h 05 min."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min" + (f" {whole % 60:02} s" if whole % 60 and whole < 600 else "")
    return f"{whole // 3600} h {whole % 3600 // 60:02} min"


def bytes_said(count: float) -> str:
    """Bytes as they are said: 512 MB, 1.3 GB."""
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"


def differences(begun: Mapping[str, Any], given: Mapping[str, Any]) -> str:
    """What work was begun with and is given otherwise now, as a person reads it; "" where nothing is."""
    return "; ".join(
        f"{name} was {_brief(begun.get(name))} and is now {_brief(given.get(name))}"
        for name in {**begun, **given}
        if begun.get(name) != given.get(name)
    )


def _brief(value: Any) -> str:
    """A setting as it is said: of a hash the beginning."""
    return value[:12] if isinstance(value, str) and len(value) == 64 else json.dumps(value, ensure_ascii=False)
