"""The life of runs explored at random against the real database: no illegal state is reachable.

Workers claim, die, come back late, hand over, fail and are told to stop, in any order; whoever
has lost its claim goes on trying. After each deed every table must hold the law.
"""

import asyncio
import os
from collections import Counter
from datetime import UTC, datetime

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from nomaflow import lifecycle, moves
from nomaflow.errors import Failure, StepError
from nomaflow.lifecycle import (
    FINAL_RUN,
    FINAL_STEP,
    RUN_EDGES,
    STEP_EDGES,
    Onward,
    Result,
    RunStatus,
    StepStatus,
)
from nomaflow.retry import RetryPolicy
from nomaflow.store import births, claims, database, leases, logs, runs
from nomaflow.store.births import NewRun, NewStep
from nomaflow.store.transitions import Line

LONG = os.environ.get("FAULTS") == "long"
WHY = "its worker is gone"
POLICY = RetryPolicy(attempts=2, base_seconds=0)
ORDER = "SELECT * FROM {} ORDER BY 1, 2, 3"
WRITTEN = ("runs", "step_runs", "attempts", "run_events", "log_lines", "step_outputs")
GAPS = """
  SELECT r.id FROM runs r JOIN (
    SELECT run_id, seq FROM run_events UNION ALL SELECT run_id, seq FROM log_lines
  ) e ON e.run_id = r.id
  GROUP BY r.id HAVING count(*) <> r.seq OR count(DISTINCT e.seq) <> r.seq OR max(e.seq) <> r.seq"""
TRIES = """
  SELECT s.run_id, s.position FROM step_runs s LEFT JOIN attempts a USING (run_id, position)
  WHERE s.status <> 'skipped'
  GROUP BY s.run_id, s.position, s.tries, s.status
  HAVING count(a.number) <> s.tries - (s.status = 'running')::int
    OR count(*) FILTER (WHERE a.status = 'succeeded') <> (s.status = 'succeeded')::int"""
TWO_AT_ONCE = """
  SELECT run_id FROM step_runs WHERE status IN ('running', 'retrying')
  GROUP BY run_id HAVING count(*) > 1"""
QUEUED = """
  SELECT r.id FROM runs r JOIN step_runs s ON s.run_id = r.id
  WHERE r.status = 'queued' AND s.status = 'running'"""
OVER = """
  SELECT r.id FROM runs r JOIN step_runs s ON s.run_id = r.id
  WHERE r.finished_at IS NOT NULL AND s.finished_at IS NULL"""


class House:
    """A database for the whole exploration, and a loop to reach it from plain functions."""

    def __init__(self, url: str) -> None:
        self.loop = asyncio.new_event_loop()
        self.db = self(database.connect(url, max_size=2))
        self.deeds: Counter[str] = Counter()
        self(self.db.execute("INSERT INTO pulse VALUES (true, '-infinity', 'infinity')"))

    def __call__(self, awaitable):
        return self.loop.run_until_complete(awaitable)

    def close(self) -> None:
        self(self.db.close())
        self.loop.close()


def _onward(held, data) -> Onward:
    """What comes after the current step: some are passed over, the next one opens."""
    step = held.current
    assert step is not None
    later = [s.position for s in held.steps if s.position > step.position]
    waiting = [p for p in later if held.steps[p].status not in FINAL_STEP]
    passed = data.draw(st.integers(0, len(waiting)))
    skips = tuple((p, lifecycle.SKIPPED_CONDITION) for p in waiting[:passed])
    return Onward(skips, waiting[passed] if passed < len(waiting) else None)


def _failure(data):
    category = data.draw(st.sampled_from(["error", "timeout", "connection"]))
    retryable = data.draw(st.sampled_from([True, True, True, False]))
    return Failure.of(StepError("no", category=category, retryable=retryable))


MOVES = {
    "succeed": lambda held, d: moves.succeed(held, Result({}, "ok", 1), _onward(held, d)),
    "skip": lambda held, d: moves.skip(held, lifecycle.SKIPPED_CONDITION, _onward(held, d)),
    "fail": lambda held, d: moves.fail(held, _failure(d), POLICY),
    "fail and go on": lambda held, d: moves.fail(
        held, _failure(d), POLICY, continue_on_error=True, onward=_onward(held, d)
    ),
    "reopen": lambda held, _: moves.reopen(held),
    "release": lambda held, _: moves.release(held, "waiting"),
    "interrupt": lambda held, d: moves.interrupt(
        held, POLICY, repeatable=d.draw(st.booleans()), why=WHY
    ),
    "surrender": lambda held, d: moves.surrender(
        held, POLICY, repeatable=d.draw(st.booleans()), why=WHY
    ),
    "hand over": lambda held, d: moves.hand_over(
        moves.succeed(held, Result({}, "ok", 1), _onward(held, d)), "handed back"
    ),
    "abort": lambda held, _: moves.abort(held, "aborted by api"),
    "give up": lambda held, d: moves.give_up(held, _failure(d)),
    "finish": lambda held, _: moves.finish(held),
}


def _possible(held) -> list[str]:
    """What a worker may decide, from where it thinks the run is."""
    if held.status is not RunStatus.RUNNING:
        return []
    step = held.current
    if step is None:
        return ["finish", "give up", "abort"]
    if step.status is StepStatus.RUNNING:  # what goes on more often than what ends the run
        onward = ["succeed", "fail", "fail and go on", "interrupt", "surrender", "hand over"]
        return [*onward, *onward, "skip", "abort", "give up"]
    if step.status is StepStatus.RETRYING:
        return ["reopen", "reopen", "release", "release", "abort", "give up"]
    return ["abort", "give up"]


class Life(RuleBasedStateMachine):
    """Runs, and every claim that was ever made on them, by workers who may not know it is void."""

    house: House

    def __init__(self) -> None:
        super().__init__()
        self.hands = []
        self.seen: dict[object, str] = {}
        self.house(self.house.db.execute("TRUNCATE runs CASCADE"))

    # What the outside does

    @rule(steps=st.lists(st.sampled_from([True, True, False]), min_size=1, max_size=4))
    def birth(self, steps):
        """A job is started; steps that are switched off are born skipped."""
        made = [
            NewStep(f"s{n}", "sql_query", None if on else lifecycle.SKIPPED_DISABLED)
            for n, on in enumerate(steps)
        ]
        self.house(
            births.insert(
                self.house.db, NewRun(job_name="j", trigger="api", triggered_by="api", steps=made)
            )
        )

    @precondition(lambda self: self.seen)
    @rule(data=st.data())
    def abort_from_outside(self, data):
        """Someone ends a waiting run, or asks the owner of a running one."""
        held = self.pick(data)
        asked = self.house(runs.request_abort(self.house.db, held.run_id, "api", None))
        assert (asked is None) is (held.status in FINAL_RUN)
        if held.status is RunStatus.QUEUED:
            assert self.house(runs.apply(self.house.db, moves.abort(held, "aborted by api")))

    # What workers do

    @rule(owner=st.sampled_from(["w1", "w2"]), limit=st.integers(1, 2))
    def claim(self, owner, limit):
        taken = self.house(
            claims.claim(self.house.db, owner, limit=limit, lease_seconds=600, tags=["default"])
        )
        for claimed in taken:
            assert claimed.held == self.house(runs.held(self.house.db, claimed.run_id))
            self.hands.append((owner, claimed.held))

    @precondition(lambda self: self.hands)
    @rule(data=st.data(), owner=st.sampled_from(["w1", "w2"]))
    def die_and_be_rescued(self, data, owner):
        """A lease runs out; another worker takes what is still marked as running."""
        held = self.pick(data)
        if held.status is not RunStatus.RUNNING:
            return
        db = self.house.db
        expire = "UPDATE runs SET lease_expires_at = '2000-01-01' WHERE id = $1"
        self.house(db.execute(expire, held.run_id))
        (claimed,) = self.house(
            claims.claim(db, owner, limit=5, lease_seconds=600, tags=["default"], expired=True)
        )
        assert claimed.held.fence > held.fence
        assert claimed.held == self.house(runs.held(db, claimed.run_id))
        self.hands.append((owner, claimed.held))

    @precondition(lambda self: any(_possible(held) for _, held in self.hands))
    @rule(data=st.data())
    def move(self, data):
        """Whoever has, or had, a claim writes what it decided."""
        able = [number for number, (_, held) in enumerate(self.hands) if _possible(held)]
        number = data.draw(st.sampled_from(able))
        owner, held = self.hands[number]
        name = data.draw(st.sampled_from(_possible(held)))
        move = MOVES[name](held, data)
        truth = self.house(runs.held(self.house.db, held.run_id))
        mine = truth.fence == held.fence and truth.status is RunStatus.RUNNING
        before = self.everything()
        line = Line(datetime.now(UTC), 20, None, "hello")
        written = self.house(runs.apply(self.house.db, move, [line] * data.draw(st.integers(0, 2))))
        assert (written is not None) is mine
        self.house.deeds[f"{name}: {'written' if mine else 'void'}"] += 1
        if mine:
            self.hands[number] = owner, held.after(move)
            assert self.hands[number][1] == self.house(runs.held(self.house.db, held.run_id))
        else:
            assert self.everything() == before

    @precondition(lambda self: self.hands)
    @rule(data=st.data())
    def speak(self, data):
        """Log lines, progress, notes and the lease itself are fenced as well."""
        owner, held = data.draw(st.sampled_from(self.hands))
        truth = self.house(runs.held(self.house.db, held.run_id))
        mine = truth.fence == held.fence and truth.status is RunStatus.RUNNING
        before = self.everything()
        db, run_id, fence = self.house.db, held.run_id, held.fence
        line = Line(datetime.now(UTC), 20, None, "hello")
        answers = [
            self.house(logs.append(db, run_id, fence, [line])) is not None,
            self.house(logs.progress(db, run_id, fence, 0, {"done": 1})) is not None,
            self.house(logs.note(db, run_id, fence, 0, shown_input={"a": 1})),
            bool(self.house(leases.renew(db, owner, {run_id: fence}, 600))),
        ]
        assert answers == [mine] * 4
        if not mine:
            assert self.everything() == before

    # What must hold after each

    @invariant()
    def nothing_moves_off_the_drawn_edges(self):
        rows = self.house(self.house.db.fetch("SELECT id AS key, status FROM runs"))
        self.follow(rows, RunStatus, RUN_EDGES, {"queued", "skipped"})
        rows = self.house(
            self.house.db.fetch("SELECT run_id || '/' || position AS key, status FROM step_runs")
        )
        self.follow(rows, StepStatus, STEP_EDGES, {"pending", "skipped"})

    @invariant()
    def the_law_holds(self):
        for law in (GAPS, TRIES, TWO_AT_ONCE, QUEUED, OVER):
            assert self.house(self.house.db.fetch(law)) == [], law

    def follow(self, rows, kind, edges, born):
        for row in rows:
            before, now = self.seen.get(row["key"]), row["status"]
            self.seen[row["key"]] = now
            if before is None:
                assert now in born
            elif before != now:
                assert kind(now) in edges[kind(before)], (row["key"], before, now)

    def pick(self, data):
        """One of the runs, as history holds it."""
        ids = [r["id"] for r in self.house(self.house.db.fetch("SELECT id FROM runs ORDER BY id"))]
        return self.house(runs.held(self.house.db, ids[data.draw(st.integers(0, len(ids) - 1))]))

    def everything(self):
        return [self.house(self.house.db.fetch(ORDER.format(table))) for table in WRITTEN]


@pytest.mark.timeout(3600 if LONG else 120)
def test_no_illegal_state_is_reachable(database_url, capsys):
    Life.house = House(database_url)
    try:
        run_state_machine_as_test(
            Life,
            settings=settings(
                max_examples=2000 if LONG else 100,
                stateful_step_count=60 if LONG else 40,
                derandomize=not LONG,
                deadline=None,
                suppress_health_check=list(HealthCheck),
            ),
        )
        deeds = Life.house.deeds
    finally:
        Life.house.close()
    with capsys.disabled():
        if LONG:
            print(f"\n{deeds.total()} moves written or void: {dict(sorted(deeds.items()))}")
    written = {name.removesuffix(": written") for name in deeds if name.endswith("written")}
    assert written == set(MOVES) if LONG else {"succeed", "fail", "interrupt"} <= written
