"""What a copy refuses before anything is written, whichever database its target is."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from nomaflow.errors import StepError


def keyless(shown: str, primary_key: Sequence[str], names: Collection[str]) -> None:
    """StepError when an upsert of these columns could not know its rows."""
    if not primary_key:
        raise StepError(f"upsert needs a primary key, and {shown} has none", retryable=False)
    if missing := [name for name in primary_key if name not in names]:
        raise StepError(
            f"upsert needs every column of the primary key of {shown}, and {missing[0]!r} is "
            "not copied",
            retryable=False,
        )


def itself(shown: str) -> StepError:
    """What is wrong with a copy whose source is its target."""
    return StepError(
        f"{shown} would be copied onto itself: source and target are one table", retryable=False
    )
