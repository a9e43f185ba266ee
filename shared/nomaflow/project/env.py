"""Reads a file of secrets into a store of its own; the process environment is never touched."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass, field

from dotenv.parser import parse_stream

LARGEST = 262_144  # bytes


@dataclass(frozen=True, slots=True)
class EnvFile:
    """Names and values, and the lines that could not be read."""

    values: Mapping[str, str] = field(default_factory=dict, repr=False)
    problems: tuple[tuple[int, str], ...] = ()


def read(raw: bytes) -> EnvFile:
    """Parse the bytes of a `.env`; a value is taken as it stands, `$` in it means nothing."""
    if len(raw) > LARGEST:
        return EnvFile(problems=((1, f"the file is larger than {LARGEST // 1024} KB"),))
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        return EnvFile(problems=((line, "the file is not UTF-8 text"),))
    values: dict[str, str] = {}
    problems: list[tuple[int, str]] = []
    for binding in parse_stream(io.StringIO(text)):
        if binding.error:
            problems.append((binding.original.line, "this line is not of the form NAME=value"))
        elif binding.key is not None and binding.value is not None:
            values[binding.key] = binding.value
    return EnvFile(values, tuple(problems))
