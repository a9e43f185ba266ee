"""The recipes' own files: where they lie, and how a test imports one."""

import importlib.util
from pathlib import Path
from typing import Any

EXAMPLES = Path(__file__).parents[2] / "examples"


def load(*parts: str) -> Any:
    """Import a file of the recipes, whose folders are no Python packages."""
    path = EXAMPLES.joinpath(*parts)
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
