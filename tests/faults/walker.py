"""A scheduler whose time is an argument: it goes from one due time to the next until the end.

python walker.py DATABASE_URL REDIS_URL END
"""

import asyncio
import sys
from datetime import datetime

from nomaflow.broker import connection
from nomaflow.broker.bell import Bell
from nomaflow.store import database, due
from nomaflow_scheduler import fire


async def walk(database_url: str, redis_url: str, end: datetime) -> None:
    db = await database.connect(database_url, min_size=1, max_size=3, application="walker")
    redis = connection.connect(redis_url)
    async with Bell(redis) as bell:
        while (at := (await due.coming(db)).look_at) is not None and at < end:
            await fire.tick(db, bell, at=at)
    await redis.aclose()
    await db.close()


if __name__ == "__main__":
    asyncio.run(walk(sys.argv[1], sys.argv[2], datetime.fromisoformat(sys.argv[3])))
