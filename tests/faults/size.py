"""How big the faults are: FAULTS=short is what CI runs, FAULTS=long makes the published figures."""

import os
import random
from typing import TypeVar

T = TypeVar("T")

LONG = os.environ.get("FAULTS", "short") == "long"
SEED = int(os.environ.get("FAULTS_SEED") or random.SystemRandom().randrange(10**6))


def pick(short: T, long: T) -> T:
    """One of two figures, by the size wanted."""
    return long if LONG else short


def dice(salt: str) -> random.Random:
    """Chance that FAULTS_SEED repeats."""
    return random.Random(f"{SEED}/{salt}")
