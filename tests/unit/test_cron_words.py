"""Every expression has words that a person would use, and none is too odd to be said."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nomaflow.clock import cron_words, schedule
from nomaflow.errors import NomaflowError

TABLE = """
* * * * *                 | Every minute
*/5 * * * *               | Every 5 minutes
*/30 * * * *              | Every 30 minutes
*/45 * * * *              | Every 45 minutes of each hour, from minute 0 to 45
1-59/2 * * * *            | Every 2 minutes of each hour, from minute 1 to 59
3-59/8 6-9 * * *          | Every 8 minutes of each hour, from minute 3 to 59, from 06:03 to 09:59
0,17 * * * *              | At minutes 0 and 17 of every hour
0 * * * *                 | At the start of every hour
15 * * * *                | At minute 15 of every hour
@hourly                   | At the start of every hour
0 2 * * *                 | At 02:00 every day
0,30 2 * * *              | At 02:00 and 02:30 every day
0 6,12,18 * * *           | At 06:00, 12:00 and 18:00 every day
0 */6 * * *               | At 00:00, 06:00, 12:00 and 18:00 every day
15 */2 * * *              | Every 2 hours from 00:15 to 22:15
15 1-23/2 * * *           | Every 2 hours from 01:15 to 23:15
0 8-18 * * MON-FRI        | Every hour from 08:00 to 18:00 from Monday to Friday
*/15 8-18 * * 1-5         | Every 15 minutes from 08:00 to 18:45 from Monday to Friday
* 3 * * *                 | Every minute from 03:00 to 03:59
* 3,7,9 * * *             | Every minute in the hours 3, 7 and 9
*/20 3,7,9 * * *          | Every 20 minutes in the hours 3, 7 and 9
0 22-23,0-4 * * *         | At minute 0 of the hours 0 to 4, 22 and 23 every day
5,15-20/5 9-17 * * 1-5    | At minutes 5, 15 and 20 of the hours 9 to 17 from Monday to Friday
30 9 * * 1                | At 09:30 on Monday
0 6,18 * * SAT,SUN        | At 06:00 and 18:00 on Saturday and Sunday
0 0 * * 7                 | At 00:00 on Sunday
0 0 * * 5-7               | At 00:00 from Friday to Sunday
0 0 * * 1,3,5             | At 00:00 on Monday, Wednesday and Friday
0 0 * * 0-6               | At 00:00 every day
@weekly                   | At 00:00 on Sunday
@monthly                  | At 00:00 on the 1st of the month
@yearly                   | At 00:00 on the 1st of January
@daily                    | At 00:00 every day
0 0 1,15 * *              | At 00:00 on the 1st and 15th of the month
0 0 2,3,11,22 * *         | At 00:00 on the 2nd, 3rd, 11th and 22nd of the month
0 0 */2 * *               | At 00:00 on every 2nd day of the month
0 0 1-7 * *               | At 00:00 on each day from the 1st to the 7th of the month
0 0 L * *                 | At 00:00 on the last day of the month
0 0 LW * *                | At 00:00 on the last weekday (Monday to Friday) of the month
0 0 15,L * *              | At 00:00 on the 15th and the last day of the month
0 0 L 2 *                 | At 00:00 on the last day of February
0 0 29 2 *                | At 00:00 on the 29th of February
0 0 1 */3 *               | At 00:00 on the 1st of January, April, July and October
0 12 * JAN,JUL *          | At 12:00 every day in January and July
0 12 * 6-8 *              | At 12:00 every day in June to August
0 12 * 6-8 MON            | At 12:00 on Monday in June to August
0 18 * * 5L               | At 18:00 on the last Friday of the month
0 18 * * friL             | At 18:00 on the last Friday of the month
0 9 * * 1#2               | At 09:00 on the second Monday of the month
0 9 * * MON#1             | At 09:00 on the first Monday of the month
0 9 * 5 SUN#2             | At 09:00 on the second Sunday of May
0 9 * * 1#1,1#3           | At 09:00 on the first Monday and the third Monday of the month
0 9 * * 2,5L              | At 09:00 on Tuesday and the last Friday of the month
0 9 15 * 1                | At 09:00 on the 15th of the month and on Monday
0 0 13 * FRI              | At 00:00 on the 13th of the month and on Friday
0 0 13 6 FRI              | At 00:00 on the 13th of June and on Friday in June
0 0 */2 * MON             | At 00:00 on every 2nd day of the month, where that is Monday
* * * * * *               | Every second
* * * * * */10            | Every 10 seconds
* * * * * */7             | At seconds 0, 7, 14, 21, 28, 35, 42, 49 and 56 of every minute
* * * * * 30              | At second 30 of every minute
* 3 * * * 0,30            | At seconds 0 and 30 of every minute from 03:00 to 03:59
*/5 * * * * 15            | Every 5 minutes, at second 15
0 2 * * * 15              | At 02:00:15 every day
10 3 * * * 0,30           | At 03:10:00 and 03:10:30 every day
59 23 31 12 * 59          | At 23:59:59 on the 31st of December
"""
ROWS = [tuple(part.strip() for part in row.split("|")) for row in TABLE.strip().splitlines()]


@pytest.mark.parametrize(("expression", "words"), ROWS, ids=[row[0] for row in ROWS])
def test_an_expression_in_words(expression, words):
    assert schedule.parse(expression).describe() == words


def test_every_expression_of_the_table_of_fires_has_words():
    table = (Path(__file__).parent / "cron_table.txt").read_text(encoding="utf-8")
    said = 0
    for row in table.splitlines():
        expression = row.split("|")[0].strip()
        if row.startswith("#") or not expression:
            continue
        try:
            cron = schedule.parse(expression)
        except NomaflowError:
            continue
        words = cron.describe()
        assert words[0].isupper(), expression
        assert "  " not in words, expression
        said += 1
    assert said > 50


def pieces(low: int, high: int, *special: str) -> st.SearchStrategy[str]:
    number = st.integers(low, high)
    spans = st.tuples(number, number).map(sorted).map(lambda s: f"{s[0]}-{s[1]}")
    stepped = spans.filter(lambda s: len(set(s.split("-"))) > 1).flatmap(
        lambda s: st.integers(1, 9).map(lambda n: f"{s}/{n}")
    )
    piece = st.one_of(number.map(str), spans, stepped, *map(st.just, special))
    listed = st.lists(piece, min_size=1, max_size=4).map(",".join)
    return st.one_of(st.just("*"), st.integers(1, high - low).map(lambda n: f"*/{n}"), listed)


FIELDS = st.tuples(
    pieces(0, 59),
    pieces(0, 23),
    pieces(1, 31, "L", "LW"),
    pieces(1, 12, "JAN", "DEC"),
    pieces(0, 7, "SUN", "FRI", "5L", "1#2"),
    st.one_of(st.just(""), pieces(0, 59)),
)


@given(FIELDS)
def test_whatever_is_accepted_can_be_said(fields):
    try:
        cron = schedule.parse(" ".join(fields).strip())
    except NomaflowError:
        return
    words = cron.describe()
    assert words[0].isupper()
    assert not words.endswith((" ", ","))
    assert "  " not in words


@given(pieces(0, 59))
def test_the_values_of_a_field_are_those_that_fire(text):
    values = cron_words.field(text, 0, 59).values
    fires = schedule.upcoming(f"{text} * * * *", "UTC", datetime(2026, 1, 1, tzinfo=UTC), 60)
    assert values == tuple(sorted({fire.minute for fire in fires}))
