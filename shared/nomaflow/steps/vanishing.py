"""How many rows may vanish from a target at once: a number, or a share of those that are there."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

_PERCENT = r"^\d{1,3}(\.\d+)?%$"
_MOST = 100


def _share(value: Any) -> Any:
    """Refuse a share above all rows: it would be no guard, and is most likely a slip."""
    if not isinstance(value, str) or value.isdecimal() or "${" in value:
        return value
    share = re.fullmatch(r"(\d+(\.\d+)?)%", value)
    if share is None:
        raise ValueError(f"`max_delete` is a number of rows, or a share as 20%, not {value!r:.40}")
    if float(share.group(1)) > _MOST:
        raise ValueError(
            f"`max_delete` is at most 100%, not {value:.40}; 100% lets every row vanish"
        )
    return value


MaxDelete = Annotated[
    Annotated[str, Field(pattern=_PERCENT)] | Annotated[int, Field(ge=0)], BeforeValidator(_share)
]
