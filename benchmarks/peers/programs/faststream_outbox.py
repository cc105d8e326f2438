"""faststream-outbox: `migrate`, `drain MESSAGES`, `emit TRANSACTIONS`.

Tuned as its documentation says: many workers, batched fetches and deletes.
"""

import asyncio
import json
import os
import sys
import time
from statistics import median
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from faststream.rabbit import RabbitBroker, RabbitQueue
from faststream_outbox import OutboxBroker, make_outbox_table
from sqlalchemy import URL, Column, Integer, MetaData, String, Table, insert, select
from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine

QUEUE = "bench"
BATCH = 500
EVENT = {"order": "1", "number": 1, "note": "x" * 212}  # 250 bytes of JSON

_given = dict(parse_qsl(urlsplit(os.environ["DATABASE_URL"]).query))
engine = create_async_engine(
    URL.create(
        "postgresql+asyncpg",
        username=_given.get("user"),
        password=_given.get("password"),
        host=_given.get("host"),
        port=int(_given.get("port", 5432)),
        database=_given["dbname"],
    ),
    pool_size=40,
)
metadata = MetaData()
outbox_table = make_outbox_table(metadata, "outbox")
orders = Table("orders", metadata, Column("id", Integer, primary_key=True), Column("note", String))
sessions = async_sessionmaker(engine, expire_on_commit=False)
outbox = OutboxBroker(engine, outbox_table=outbox_table)


async def migrate() -> dict[str, Any]:
    async with engine.begin() as connection:
        await connection.run_sync(metadata.create_all)
    return {}


async def drain(messages: int) -> dict[str, Any]:
    for start in range(0, messages, BATCH):
        async with sessions() as session, session.begin():
            for _ in range(start, min(start + BATCH, messages)):
                await outbox.publish(EVENT, queue="orders", session=session)
    rabbit = RabbitBroker(os.environ["BROKER_URL"])
    relayed = 0

    @rabbit.publisher(RabbitQueue(QUEUE, declare=False), persist=True)
    @outbox.subscriber(
        "orders", max_workers=32, fetch_batch_size=500, terminal_flush_batch_size=100
    )
    async def relay(body: dict[str, Any]) -> dict[str, Any]:
        nonlocal relayed
        relayed += 1
        return body

    await rabbit.start()
    started, cpu = time.monotonic(), time.process_time()
    await outbox.start()
    while relayed < messages:
        await asyncio.sleep(0.01)
    async with engine.connect() as connection:
        while (await connection.execute(select(outbox_table.c.id).limit(1))).first():
            await connection.rollback()
            await asyncio.sleep(0.005)
    seconds, cpu = time.monotonic() - started, time.process_time() - cpu
    await outbox.stop()
    await rabbit.stop()
    return {"messages": messages, "seconds": seconds, "cpu": cpu}


async def emit(transactions: int) -> dict[str, Any]:
    """Measure a one-row transaction without and with an event, in turns."""
    without, with_event = [], []
    for _ in range(transactions):
        for times, emits in ((without, False), (with_event, True)):
            started = time.perf_counter()
            async with sessions() as session, session.begin():
                await session.execute(insert(orders).values(note="x" * 200))
                if emits:
                    await outbox.publish(EVENT, queue="orders", session=session)
            times.append(time.perf_counter() - started)
    return {"without": median(without), "with": median(with_event)}


async def main(command: str, *arguments: str) -> None:
    work = {"migrate": migrate, "drain": drain, "emit": emit}[command]
    done = await work(*map(int, arguments))
    await engine.dispose()
    print(json.dumps(done))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
