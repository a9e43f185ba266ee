"""How many rows, in words."""


def counted(count: int, one: str = "row", many: str | None = None) -> str:
    """`1 row`, `7 rows`, `120 000 rows`, `2 items`."""
    return f"{count:,} {one if count == 1 else many or f'{one}s'}".replace(",", " ")
