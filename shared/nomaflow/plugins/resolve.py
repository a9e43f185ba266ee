"""From the text `module.path:function` to a function of a plugin's file, and to nothing else.

Importing runs the user's code, so only the child process of a step does it (SEC-P04).
"""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Callable
from importlib.machinery import (
    EXTENSION_SUFFIXES,
    SOURCE_SUFFIXES,
    ExtensionFileLoader,
    FileFinder,
    SourceFileLoader,
)
from inspect import unwrap
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any

from nomaflow.errors import StepError

LONGEST = 255
_SHAPE = re.compile(
    r"([A-Za-z_][A-Za-z0-9_]*(?:\.[A-Za-z_][A-Za-z0-9_]*)*):([A-Za-z_][A-Za-z0-9_]*)"
)

Function = Callable[..., Any]


def parse(text: str) -> tuple[str, str]:
    """Split `module.path:function`; StepError for any other shape (SEC-P02)."""
    found = _SHAPE.fullmatch(text) if len(text) <= LONGEST else None
    if found is None:
        raise _refusal(f"{text!r:.80} is not a function's place: write `module.path:function`")
    return found[1], found[2]


def find(plugins: Path, module: str) -> Path:
    """The file of `module` under `plugins`; StepError when there is none or it lies elsewhere."""
    within = Path(*module.split("."))
    wanted = (within.with_suffix(".py"), within / "__init__.py")
    for place in wanted:
        file = plugins / place
        if not file.is_file():
            continue
        if not file.resolve().is_relative_to(plugins.resolve()):
            raise _refusal(
                f"{plugins.name}/{place} is a link that leads out of the plugins folder: "
                "put the file itself there"
            )
        return file
    raise _refusal(
        f"no module {module!r} under {plugins}: there is neither {wanted[0]} nor {wanted[1]}"
    )


def load(plugins: Path, text: str) -> Function:
    """Import the module and answer its function.

    StepError when one of the two halves is not there. What the module itself raises while
    being imported comes out as it is.
    """
    module_name, name = parse(text)
    file = find(plugins, module_name)
    _check_free(plugins, module_name)
    _make_importable(plugins)
    module = importlib.import_module(module_name)
    if module.__file__ is None or Path(module.__file__).resolve() != file.resolve():
        raise _refusal(f"{module_name!r} is another module than {file}: rename the file")
    return _function(module, file, name)


def _function(module: ModuleType, file: Path, name: str) -> Function:
    """The function `name` written in `module` itself, not one it imported (SEC-P01)."""
    try:
        found = vars(module)[name]
    except KeyError:
        raise _refusal(f"{file} has no function {name!r}{_known(module)}") from None
    inner = unwrap(found) if callable(found) else found
    if not isinstance(found, FunctionType) or not isinstance(inner, FunctionType):
        raise _refusal(f"{name!r} of {file} is a {type(found).__name__}, not a function")
    if inner.__globals__ is not vars(module):
        raise _refusal(
            f"{name!r} of {file} was defined in {inner.__module__}: a step calls functions "
            "written in the plugin's own file (a decorator needs functools.wraps)"
        )
    return found


def _known(module: ModuleType) -> str:
    names = [
        name
        for name, value in vars(module).items()
        if isinstance(value, FunctionType) and value.__module__ == module.__name__
    ]
    return f": it has {', '.join(names[:10])}" if names else ""


def _check_free(plugins: Path, module: str) -> None:
    """A plugin named like a module that is already there would be that module instead."""
    top = module.split(".", 1)[0]
    taken = top in sys.stdlib_module_names
    if not taken and (present := sys.modules.get(top)) is not None:
        places = [present.__file__] if present.__file__ else list(present.__path__)
        taken = not any(Path(place).is_relative_to(plugins) for place in places)
    if taken:
        raise _refusal(f"{top!r} under {plugins} has the name of an installed module: rename it")


def _make_importable(plugins: Path) -> None:
    root = str(plugins)
    if root in sys.path:
        return

    def finder(path: str) -> FileFinder:
        if not Path(path).is_relative_to(plugins):
            raise ImportError(path)
        native = (ExtensionFileLoader, EXTENSION_SUFFIXES)
        return FileFinder(path, native, (_FromSource, SOURCE_SUFFIXES))

    sys.path_hooks.insert(0, finder)
    sys.path.insert(0, root)
    importlib.invalidate_caches()


class _FromSource(SourceFileLoader):
    """Compiles the file that is there: byte code is stale for an edit within its second (P12)."""

    def get_code(self, fullname: str) -> CodeType | None:
        path = self.get_filename(fullname)
        return self.source_to_code(self.get_data(path), path)


def _refusal(sentence: str) -> StepError:
    """What only a change of the job or of the file can mend."""
    return StepError(sentence, retryable=False)
