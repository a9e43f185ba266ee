"""How a plugin's function is called: `ctx` first, then what it asks for by name."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from inspect import Parameter
from typing import Any

from nomaflow.errors import StepError
from nomaflow.plugins import coercion

_CONTEXT_NAMES = {"ctx", "context"}
_BY_POSITION = (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)


@dataclass(frozen=True, slots=True)
class Bound:
    """The arguments of one call."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any]


def bind(
    name: str,
    function: Callable[..., Any],
    ctx: object,
    *,
    kwargs: Mapping[str, Any],
    params: Mapping[str, Any],
    offers: Mapping[str, Callable[[], Any]],
) -> Bound:
    """Decide every argument of `function`; `name` is how errors call it.

    The first positional parameter is the context, unless its name is that of a value given
    here. `kwargs` are the step's own and must all be taken; `params` are taken where the
    function has a name for them or `**` catches them; `offers` only where it declares the name
    and nobody gave a value; in a dry run `dry_run` is true whatever was given (X32). Text is made
    what the annotation says (P13). StepError, not to be retried, when it does not fit.
    """
    signature = inspect.signature(function)
    given = {**params, **kwargs}
    declared = dict(signature.parameters)
    context = _context_parameter(declared, given, offers)
    if context is not None:
        del declared[context.name]
        if context.name in kwargs:
            raise _refusal(f"{name} receives {context.name!r} from the engine: drop it from kwargs")
    catches_all = any(p.kind is Parameter.VAR_KEYWORD for p in declared.values())
    named = {
        p.name: p
        for p in declared.values()
        if p.kind in (Parameter.POSITIONAL_OR_KEYWORD, Parameter.KEYWORD_ONLY)
    }
    _refuse_strangers(name, kwargs, named, catches_all=catches_all)
    hints = _hints(function)
    arguments: dict[str, Any] = {}
    for key, value in given.items():
        if key in named:
            arguments[key] = _coerced(name, key, value, hints.get(key))
        elif catches_all and (context is None or key != context.name):
            arguments[key] = value
    for key in (named.keys() - arguments.keys()) & offers.keys():
        arguments[key] = offers[key]()
    if "dry_run" in arguments and "dry_run" in offers:
        arguments["dry_run"] = arguments["dry_run"] or offers["dry_run"]()
    _refuse_gaps(name, named, arguments)
    if context is None:
        return Bound((), arguments)
    if context.kind is Parameter.KEYWORD_ONLY:
        return Bound((), {context.name: ctx, **arguments})
    return Bound((ctx,), arguments)


def _context_parameter(
    declared: Mapping[str, Parameter], given: Mapping[str, Any], offers: Mapping[str, Any]
) -> Parameter | None:
    """The parameter that receives the context, if any does."""
    first = next(iter(declared.values()), None)
    if first is not None and first.kind in _BY_POSITION:
        if first.name in _CONTEXT_NAMES or first.kind is Parameter.POSITIONAL_ONLY:
            return first
        if first.name not in given and first.name not in offers:
            return first
    for parameter in declared.values():
        if parameter.kind is Parameter.KEYWORD_ONLY and parameter.name in _CONTEXT_NAMES:
            return parameter
    return None


def _refuse_strangers(
    name: str, kwargs: Mapping[str, Any], named: Mapping[str, Parameter], *, catches_all: bool
) -> None:
    strangers = [key for key in kwargs if key not in named]
    if strangers and not catches_all:
        takes = f"it takes {', '.join(named)}" if named else "it takes no keyword arguments"
        raise _refusal(f"{name} does not take {', '.join(map(repr, strangers))} of kwargs: {takes}")


def _refuse_gaps(name: str, named: Mapping[str, Parameter], arguments: Mapping[str, Any]) -> None:
    missing = [
        p.name for p in named.values() if p.default is Parameter.empty and p.name not in arguments
    ]
    if missing:
        needs = ", ".join(map(repr, missing))
        raise _refusal(f"{name} needs {needs}: give it in the step's kwargs or in the job's params")


def _hints(function: Callable[..., Any]) -> Mapping[str, Any]:
    """Annotations as types; those that cannot be evaluated here ask for nothing."""
    inner = inspect.unwrap(function)
    hints: dict[str, Any] = {}
    for key, annotation in getattr(inner, "__annotations__", {}).items():
        # A name imported for type checkers only says nothing here.
        with contextlib.suppress(Exception):
            # Postponed annotations; the module is the user's own and already runs here.
            text = isinstance(annotation, str)
            hints[key] = eval(annotation, inner.__globals__) if text else annotation  # noqa: S307
    return hints


def _coerced(name: str, key: str, value: Any, hint: Any) -> Any:
    """Turn `value` into what the annotation says, where it says something that can be made."""
    try:
        return coercion.coerced(value, hint)
    except ValueError:
        words = coercion.in_words(hint)
        raise _refusal(f"{name} wants {key!r} as {words}, and {value!r:.80} is not one") from None


def _refusal(sentence: str) -> StepError:
    return StepError(sentence, retryable=False)
