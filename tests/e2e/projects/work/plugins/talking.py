"""A step that has much to say."""

import time


def talk(ctx, *, lines):
    for n in range(lines):
        ctx.log.info(f"line {n}")  # noqa: G004  the run's log
        ctx.progress(n + 1, lines, unit="lines")
        time.sleep(0.02)
    ctx.log.warning("that was all")
    return {"lines": lines}
