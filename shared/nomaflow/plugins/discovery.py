"""Which functions the plugins hold, read from their text: nothing of the user's is ever imported.

A file that cannot be read or parsed is passed over and hides no other (P14).
"""

from __future__ import annotations

import ast
import keyword
import os
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

LARGEST = 1_048_576
MOST_FILES = 5_000
_PART = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
GIVEN_BY_NAME = frozenset(
    {"ctx", "context", "connectors", "pools", "params", "settings", "step_kwargs", "previous_step"}
    | {"logger", "run_id", "job_id", "step_name", "session_user"}
)
"""What the engine gives to a parameter of that name; a step gives the others (and `dry_run`)."""
_LONGEST = 200


@dataclass(frozen=True, slots=True)
class Parameter:
    """One argument that a step may give by name; `default` is a JSON value, or source text."""

    name: str
    annotation: str | None
    required: bool
    default: Any = None

    def as_json(self) -> dict[str, Any]:
        """Write it as the API shows it."""
        return {
            "name": self.name,
            "annotation": self.annotation,
            "required": self.required,
            "default": self.default,
        }


@dataclass(frozen=True, slots=True)
class Found:
    """A function that a step can name; the context and `**` are not among its parameters."""

    callable: str
    name: str
    summary: str
    is_async: bool
    parameters: tuple[Parameter, ...]
    takes_more: bool
    """True when `**` catches what it has no name for."""


@dataclass(frozen=True, slots=True)
class Module:
    """One file: its functions by name, all names it binds itself, or why it cannot be read."""

    functions: Mapping[str, Found] = field(default_factory=dict)
    names: frozenset[str] = frozenset()
    broken: str | None = None


def callables(plugins: Path) -> list[Found]:
    """Return every function of the plugins whose name does not begin with `_`, by name."""
    found = [
        function
        for path in files(plugins)
        for function in read(plugins, path).functions.values()
        if not function.name.startswith("_")
    ]
    return sorted(found, key=lambda function: function.callable)


def missing(plugins: Path, text: str) -> str | None:
    """Say why `module.path:function` cannot be called as the files are now; None when it can."""
    module, _, name = text.partition(":")
    within = Path(*module.split("."))
    wanted = (within.with_suffix(".py"), within / "__init__.py")
    path = next((plugins / place for place in wanted if (plugins / place).is_file()), None)
    if path is None:
        return f"there is neither {wanted[0]} nor {wanted[1]} under {plugins.name}/"
    known = read(plugins, path)
    where = f"{plugins.name}/{path.relative_to(plugins)}"
    if known.broken is not None:
        return f"{where} cannot be read: {known.broken}"
    if name in known.names:
        return None
    has = ", ".join(sorted(known.functions)[:10])
    return f"{where} has no function {name!r}" + (f": it has {has}" if has else "")


def files(plugins: Path) -> Iterator[Path]:
    """Yield the files that a module name can reach, in order; links out of the folder are left."""
    left = MOST_FILES
    root = plugins.resolve()
    for folder, inner, names in os.walk(plugins):
        inner[:] = sorted(name for name in inner if _importable(name))
        for name in sorted(names):
            path = Path(folder, name)
            if path.suffix != ".py" or not (_importable(path.stem) or path.stem == "__init__"):
                continue
            if left and path.resolve().is_relative_to(root):
                left -= 1
                yield path


def read(plugins: Path, path: Path) -> Module:
    """Read one file; the same one is not parsed again until it changes."""
    within = path.relative_to(plugins).with_suffix("")
    parts = within.parts[:-1] if within.name == "__init__" else within.parts
    try:
        found = path.stat()
        if found.st_size > LARGEST:
            return Module(broken=f"it is larger than {LARGEST // 1024} KB")
        return _parsed(path, ".".join(parts), (found.st_mtime_ns, found.st_size, found.st_ino))
    except OSError as error:
        return Module(broken=error.strerror or "it is not there")


def _importable(name: str) -> bool:
    return (
        _PART.fullmatch(name) is not None and not keyword.iskeyword(name) and name != "__pycache__"
    )


@lru_cache(maxsize=MOST_FILES)
def _parsed(path: Path, module: str, _stamp: tuple[int, int, int]) -> Module:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the user's escape sequences
            tree = ast.parse(path.read_bytes())
    except SyntaxError as error:
        return Module(broken=f"line {error.lineno}: {error.msg}")
    except (ValueError, RecursionError, MemoryError) as error:
        return Module(broken=str(error) or type(error).__name__)
    statements = list(_at_top(tree.body))
    functions = {
        node.name: _function(module, node)
        for node in statements
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    return Module(functions, frozenset(functions) | frozenset(_assigned(statements)))


def _at_top(body: Sequence[ast.stmt]) -> Iterator[ast.stmt]:
    """Yield statements of the module itself, those inside its `if`, `try` and `with` too."""
    for node in body:
        yield node
        if isinstance(node, ast.If | ast.Try | ast.With):
            for name in ("body", "orelse", "finalbody"):
                yield from _at_top(getattr(node, name, []))
            for handler in getattr(node, "handlers", []):
                yield from _at_top(handler.body)


def _assigned(statements: Sequence[ast.stmt]) -> Iterator[str]:
    for node in statements:
        if isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            yield from (target.id for target in targets if isinstance(target, ast.Name))


def _function(module: str, node: ast.FunctionDef | ast.AsyncFunctionDef) -> Found:
    summary = (ast.get_docstring(node) or "").strip().partition("\n")[0]
    return Found(
        callable=f"{module}:{node.name}",
        name=node.name,
        summary=summary[:_LONGEST],
        is_async=isinstance(node, ast.AsyncFunctionDef),
        parameters=tuple(_parameters(node.args)),
        takes_more=node.args.kwarg is not None,
    )


def _parameters(args: ast.arguments) -> Iterator[Parameter]:
    by_place = [*args.posonlyargs, *args.args]
    defaults: list[ast.expr | None] = [None] * (len(by_place) - len(args.defaults))
    pairs = list(zip(by_place, [*defaults, *args.defaults], strict=True))
    if len(by_place) == 1 and args.kwonlyargs:  # `ctx` of the seeds' form, whatever its name
        pairs = []
    pairs += zip(args.kwonlyargs, args.kw_defaults, strict=True)
    for arg, default in pairs:
        if arg.arg not in GIVEN_BY_NAME and arg not in args.posonlyargs:
            yield Parameter(
                arg.arg,
                ast.unparse(arg.annotation)[:_LONGEST] if arg.annotation else None,
                required=default is None,
                default=None if default is None else _value(default),
            )


def _value(node: ast.expr) -> Any:
    """A default as JSON where it is a plain value, else as it is written."""
    try:
        value = ast.literal_eval(node)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return ast.unparse(node)[:_LONGEST]
    return value if _is_json(value) else ast.unparse(node)[:_LONGEST]


def _is_json(value: Any) -> bool:
    match value:
        case None | bool() | int() | str():
            return True
        case float():
            return value == value and abs(value) != float("inf")  # noqa: PLR0124  NaN is not itself
        case list():
            return all(map(_is_json, value))
        case dict():
            return all(isinstance(key, str) and _is_json(part) for key, part in value.items())
        case _:
            return False
