"""How many rows, in words."""


def counted(rows: int) -> str:
    """`1 row`, `7 rows`, `120 000 rows`."""
    return f"{rows:,} {'row' if rows == 1 else 'rows'}".replace(",", " ")
