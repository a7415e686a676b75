"""Numbers as they are said to a person."""


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
