r"""Patterns of text whose time is bounded: regular expressions without what can run away.

`.` `[a-z]` `[^a-z]` `\d \w \s \D \W \S` `\t \n \r` `(...)` `|` `*` `+` `?` `{m,n}` `^` `$`
`\b` and `(?i)` at the start. Every state is carried along at once (Thompson's construction), so the
time is the length of the text times the size of the pattern, whatever either holds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache

LONGEST = 500
LARGEST = 2_000
MOST_WORK = 1_000_000
_DEEPEST = 30
_MOST_TIMES = 200

Test = Callable[[str], bool]


class PatternError(ValueError):
    """A pattern that cannot be read; `offset` is the place in it, from 0."""

    def __init__(self, message: str, offset: int = 0) -> None:
        super().__init__(message)
        self.message = message
        self.offset = offset


@dataclass(frozen=True, slots=True)
class Pattern:
    """A pattern made ready."""

    text: str
    program: tuple[_Order, ...] = field(repr=False, compare=False)

    def found_in(self, text: str) -> bool:
        """Tell whether the pattern is anywhere in the text; PatternError when both are too long."""
        if len(text) * len(self.program) > MOST_WORK:
            raise PatternError("this text is too long for this pattern")
        states: dict[int, None] = {}
        for at in range(len(text) + 1):
            if self._arrive(states, 0, text, at):
                return True
            if at < len(text):
                before, states = states, {}
                for state in before:
                    test = self.program[state].test
                    taken = test is not None and test(text[at])
                    if taken and self._arrive(states, state + 1, text, at + 1):
                        return True
        return False

    def _arrive(self, states: dict[int, None], start: int, text: str, at: int) -> bool:
        """Add every state reachable without a letter; True when the end is among them."""
        waiting = [start]
        while waiting:
            state = waiting.pop()
            if state in states:
                continue
            states[state] = None
            order = self.program[state]
            if order.ends:
                return True
            if order.where is not None:
                if order.where(text, at):
                    waiting.append(state + 1)
            elif order.test is None:
                waiting.extend(state + way for way in order.ways)
        return False


@dataclass(frozen=True, slots=True)
class _Order:
    """One step: take a letter, look where one is, go one way or several, or be done."""

    test: Test | None = None
    where: Callable[[str, int], bool] | None = None
    ways: tuple[int, ...] = ()
    ends: bool = False


_Program = list[_Order]


@lru_cache(maxsize=256)
def compile(text: str) -> Pattern:  # noqa: A001  pattern.compile says it best, as re's does
    """Read a pattern; PatternError says what is wrong with it and where."""
    if len(text) > LONGEST:
        raise PatternError(f"a pattern may have {LONGEST} characters")
    reader = _Reader(text)
    program = reader.whole()
    return Pattern(text, (*program, _Order(ends=True)))


class _Reader:
    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._depth = 0
        self._folds = text.startswith("(?i)")
        if self._folds:
            self._at = 4

    def whole(self) -> _Program:
        program = self._either()
        if self._at < len(self._text):
            raise self._wrong("this `)` closes nothing")
        return program

    def _next(self) -> str:
        return self._text[self._at : self._at + 1]

    def _takes(self, letter: str) -> bool:
        if self._next() != letter:
            return False
        self._at += 1
        return True

    def _wrong(self, message: str, at: int | None = None) -> PatternError:
        return PatternError(message, self._at if at is None else at)

    def _either(self) -> _Program:
        self._depth += 1
        if self._depth > _DEEPEST:
            raise self._wrong(f"it is nested deeper than {_DEEPEST} levels")
        program = self._sequence()
        while self._takes("|"):
            other = self._sequence()
            split = _Order(ways=(1, len(program) + 2))
            program = [split, *program, _Order(ways=(len(other) + 1,)), *other]
        self._depth -= 1
        return program

    def _sequence(self) -> _Program:
        program: _Program = []
        while self._next() not in ("", "|", ")"):
            program += self._repeated()
            if len(program) > LARGEST:
                raise self._wrong("it repeats too much")
        return program

    def _repeated(self) -> _Program:
        at = self._at
        one = self._atom()
        for least, most in self._times():
            one = _times(one, least, most)
            if len(one) > LARGEST:
                raise self._wrong("it repeats too much", at)
        return one

    def _times(self) -> Iterator[tuple[int, int | None]]:
        """Yield how often the atom comes; `None` is without end, a lazy `?` changes nothing."""
        match self._next():
            case "*":
                found: tuple[int, int | None] = (0, None)
            case "+":
                found = (1, None)
            case "?":
                found = (0, 1)
            case "{":
                found = self._braces()
            case _:
                return
        self._at += 1
        self._takes("?")
        if self._next() and self._next() in "*+?{":
            raise self._wrong(f"`{self._next()}` repeats nothing")
        yield found

    def _braces(self) -> tuple[int, int | None]:
        end = self._text.find("}", self._at)
        least, comma, most = self._text[self._at + 1 : max(end, self._at)].partition(",")
        if not least.isdecimal() or not (most == "" or most.isdecimal()) or end < 0:
            raise self._wrong("write {m}, {m,} or {m,n}; `\\{` is the brace itself")
        low = int(least)
        high = (int(most) if most else None) if comma else low
        if max(low, high or 0) > _MOST_TIMES or (high is not None and high < low):
            raise self._wrong(f"a repetition goes from less to more, {_MOST_TIMES} at most")
        self._at = end
        return low, high

    def _atom(self) -> _Program:  # noqa: C901, PLR0911  a line for each kind of atom
        at = self._at
        letter = self._next()
        self._at += 1
        match letter:
            case "(":
                if self._takes("?") and not self._takes(":"):
                    raise self._wrong("only (?:...) and a leading (?i) are known here", at)
                inner = self._either()
                if not self._takes(")"):
                    raise self._wrong("this `(` is not closed", at)
                return inner
            case "[":
                return [_Order(test=self._class(at))]
            case ".":
                return [_Order(test=lambda char: char != "\n")]
            case "^":
                return [_Order(where=lambda _, place: place == 0)]
            case "$":
                return [_Order(where=lambda text, place: place == len(text))]
            case "\\" if self._takes("b"):
                return [_Order(where=_at_edge)]
            case "\\":
                return [_Order(test=self._escape(at))]
            case "*" | "+" | "?" | "{":
                raise self._wrong(f"`{letter}` repeats nothing", at)
            case _:
                return [_Order(test=self._letter(letter))]

    def _letter(self, letter: str) -> Test:
        if self._folds:
            folded = letter.casefold()
            return lambda char: char.casefold() == folded
        return lambda char: char == letter

    def _escape(self, at: int) -> Test:
        letter = self._next()
        self._at += 1
        if letter in _KINDS:
            return _KINDS[letter]
        if letter in _ESCAPES:
            return self._letter(_ESCAPES[letter])
        if letter == "" or letter.isalnum():
            raise self._wrong(f"`\\{letter}` is not known here", at)
        return self._letter(letter)

    def _class(self, at: int) -> Test:
        negated = self._takes("^")
        tests: list[Test] = [self._letter("]")] if self._takes("]") else []
        while not self._takes("]"):
            if self._next() == "":
                raise self._wrong("this `[` is not closed", at)
            tests.append(self._member(at))
        known = tuple(tests)
        return lambda char: any(test(char) for test in known) is not negated

    def _member(self, at: int) -> Test:
        if self._takes("\\"):
            if self._next() in _KINDS:
                self._at += 1
                return _KINDS[self._text[self._at - 1]]
            self._at -= 1
        letter = self._single()
        if self._next() == "-" and self._text[self._at + 1 : self._at + 2] not in ("]", ""):
            self._at += 1
            last = self._single()
            if last < letter:
                raise self._wrong(f"the range {letter}-{last} goes backwards", at)
            return self._range(letter, last)
        return self._letter(letter)

    def _single(self) -> str:
        """One letter inside brackets, written as it is or after a backslash."""
        escaped = self._takes("\\")
        letter = self._next()
        self._at += 1
        return _ESCAPES.get(letter, letter) if escaped else letter

    def _range(self, first: str, last: str) -> Test:
        if self._folds:
            return lambda char: any(first <= c <= last for c in (char, char.lower(), char.upper()))
        return lambda char: first <= char <= last


def _times(one: _Program, least: int, most: int | None) -> _Program:
    size = len(one)
    program = one * least
    if most is None:
        if least:
            return [*program, _Order(ways=(-size, 1))]
        return [_Order(ways=(1, size + 2)), *one, _Order(ways=(-size - 1,))]
    for left in range(most - least, 0, -1):
        program = [*program, _Order(ways=(1, left * (size + 1))), *one]
    return program


def _is_word(char: str) -> bool:
    return char == "_" or char.isalnum()


def _at_edge(text: str, place: int) -> bool:
    before = place > 0 and _is_word(text[place - 1])
    after = place < len(text) and _is_word(text[place])
    return before is not after


_KINDS: dict[str, Test] = {
    "d": lambda char: char.isdecimal(),
    "D": lambda char: not char.isdecimal(),
    "w": _is_word,
    "W": lambda char: not _is_word(char),
    "s": lambda char: char.isspace(),
    "S": lambda char: not char.isspace(),
}
_ESCAPES = {"t": "\t", "n": "\n", "r": "\r"}
