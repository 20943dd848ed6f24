"""Jobs in Redis: the store that many machines share.

A hash for each job with its record and version, a sorted set for each list by time of creation, a string for each name.
Everything that changes more than one of them is a Lua script, which Redis runs whole or not at all.
Turn Redis' append-only file on (`appendonly yes`): what it has answered then outlives it.
"""

import builtins
import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import redis

from impasto.core.errors import Gone, NoSpace, NotFound, Unavailable
from impasto.core.jobs.record import REMEMBERED, Job, no_job

PREFIX = "impasto:"
PATIENCE = 1.0
"""Seconds that a connection, and an answer, may take."""

COUNT_STORED = """
local function count_stored(client, more)
    if more ~= 0 and redis.call('HINCRBY', 'impasto:stored', client, string.format('%.0f', more)) == 0 then
        redis.call('HDEL', 'impasto:stored', client)
    end
end
"""
"""Adds to the bytes that a client has stored."""

SCHEDULE = """
local function schedule(job, due)
    local webhooks = 'impasto:webhooks:' .. job.webhook_client
    if due then redis.call('ZADD', webhooks, due, job.id) else redis.call('ZREM', webhooks, job.id) end
    local first = redis.call('ZRANGE', webhooks, 0, 0, 'WITHSCORES')
    if first[1] then
        redis.call('ZADD', 'impasto:webhooks', first[2], job.webhook_client)
    else
        redis.call('ZREM', 'impasto:webhooks', job.webhook_client)
    end
end
"""
"""Puts a job's webhook among those of its client, by when it is due, and the client among all, by its first one."""

# KEYS: none, since all of them follow from the arguments; one Redis, not a cluster.
ADD = (
    SCHEDULE
    + COUNT_STORED
    + """
local job = cjson.decode(ARGV[1])
if redis.call('EXISTS', 'impasto:job:' .. job.id) == 1 then return false end
for _, name in ipairs(job.names) do
    local holder = redis.call('GET', 'impasto:name:' .. name)
    if holder then return holder end
end
redis.call('HSET', 'impasto:job:' .. job.id, 'record', job.record, 'version', job.version)
for _, list in ipairs(job.lists) do redis.call('ZADD', 'impasto:list:' .. list, job.created, job.id) end
if job.due then schedule(job, job.due) end
for _, name in ipairs(job.names) do redis.call('SET', 'impasto:name:' .. name, job.id) end
count_stored(job.client, job.stored)
return false
"""
)

REPLACE = (
    SCHEDULE
    + COUNT_STORED
    + """
local old, new = cjson.decode(ARGV[1]), cjson.decode(ARGV[2])
if redis.call('HGET', 'impasto:job:' .. old.id, 'version') ~= old.version then return 0 end
redis.call('HSET', 'impasto:job:' .. old.id, 'record', new.record, 'version', new.version)
for _, list in ipairs(old.lists) do redis.call('ZREM', 'impasto:list:' .. list, old.id) end
for _, list in ipairs(new.lists) do redis.call('ZADD', 'impasto:list:' .. list, new.created, new.id) end
if old.due ~= new.due then schedule(new, new.due) end
for _, name in ipairs(old.names) do redis.call('DEL', 'impasto:name:' .. name) end
for _, name in ipairs(new.names) do redis.call('SET', 'impasto:name:' .. name, new.id) end
count_stored(new.client, new.stored - old.stored)
return 1
"""
)

REMOVE = (
    SCHEDULE
    + COUNT_STORED
    + """
local job = cjson.decode(ARGV[1])
if redis.call('HGET', 'impasto:job:' .. job.id, 'version') ~= job.version then return 0 end
redis.call('DEL', 'impasto:job:' .. job.id)
for _, list in ipairs(job.lists) do redis.call('ZREM', 'impasto:list:' .. list, job.id) end
if job.due then schedule(job, nil) end
for _, name in ipairs(job.names) do redis.call('DEL', 'impasto:name:' .. name) end
if ARGV[2] ~= '' then redis.call('SET', 'impasto:expired:' .. job.id, '1', 'EX', ARGV[2]) end
count_stored(job.client, -job.stored)
return 1
"""
)


class RedisStore:
    """A `Store` in one Redis, for many machines. Connects when it is first used, and again when it must."""

    def __init__(self, url: str) -> None:
        self._redis = redis.Redis.from_url(
            url,
            decode_responses=True,
            socket_connect_timeout=PATIENCE,
            socket_timeout=PATIENCE,
            retry=redis.retry.Retry(redis.backoff.NoBackoff(), 1),  # a connection that a restart has cut
        )
        self._add, self._replace, self._remove = map(self._redis.register_script, (ADD, REPLACE, REMOVE))

    def add(self, job: Job) -> str | None:
        with _errors():
            holder = self._add(args=[_packed(job)])
            return None if holder in (None, job.id) else str(holder)

    def get(self, id: str) -> Job:
        with _errors():
            record = self._redis.hget(f"{PREFIX}job:{id}", "record")
            expired = record is None and bool(self._redis.exists(f"{PREFIX}expired:{id}"))
        if record is None:
            raise no_job(id, expired)
        return Job.model_validate_json(record)

    def replace(self, old: Job, new: Job) -> bool:
        with _errors():
            return bool(self._replace(args=[_packed(old), _packed(new)]))

    def remove(self, id: str, expired: bool = False) -> None:
        while True:
            try:
                job = self.get(id)
            except (NotFound, Gone):
                return
            with _errors():
                if self._remove(args=[_packed(job), int(REMEMBERED) if expired else ""]):
                    return

    def list(
        self, name: str, *, newest: bool = False, limit: int = 100, after: Job | None = None
    ) -> builtins.list[Job]:
        key = f"{PREFIX}list:{name}"
        with _errors():
            first = 0
            if after:
                rank: Any = self._redis.zrevrank(key, after.id) if newest else self._redis.zrank(key, after.id)
                first = int(rank) + 1 if rank is not None else self._place(key, after, newest)
            ids: Any = self._redis.zrange(key, first, first + limit - 1, desc=newest)
        return self._jobs(ids)

    def count(self, name: str) -> int:
        with _errors():
            found: Any = self._redis.zcard(f"{PREFIX}list:{name}")
            return int(found)

    def stored(self, client: str) -> int:
        with _errors():
            found: Any = self._redis.hget(f"{PREFIX}stored", client)
            return int(found) if found else 0

    def webhook_clients(self, by: float) -> builtins.list[str]:
        with _errors():
            found: Any = self._redis.zrangebyscore(f"{PREFIX}webhooks", "-inf", by)
            return [str(client) for client in found]

    def webhooks_due(self, client: str, by: float, limit: int) -> builtins.list[Job]:
        with _errors():
            ids: Any = self._redis.zrangebyscore(f"{PREFIX}webhooks:{client}", "-inf", by, start=0, num=limit)
        return self._jobs(ids)

    def sign(self, kind: str, at: float) -> None:
        with _errors():
            self._redis.set(f"{PREFIX}worker:{kind}", repr(at), ex=3600)

    def signed(self, kind: str) -> float:
        with _errors():
            found: Any = self._redis.get(f"{PREFIX}worker:{kind}")
            return float(found) if found else 0.0

    def holder(self, name: str) -> str | None:
        with _errors():
            found: Any = self._redis.get(f"{PREFIX}name:{name}")
            return None if found is None else str(found)

    def close(self) -> None:
        self._redis.close()

    def _jobs(self, ids: builtins.list[str]) -> builtins.list[Job]:
        """The jobs of these ids, but for those that are gone by now."""
        with _errors(), self._redis.pipeline(transaction=False) as pipeline:
            for id in ids:
                pipeline.hget(f"{PREFIX}job:{id}", "record")
            records = pipeline.execute()
        return [Job.model_validate_json(record) for record in records if record is not None]

    def _place(self, key: str, after: Job, newest: bool) -> int:
        """How many of a list come before a job that has left it."""
        score = after.created.timestamp()
        found: Any = self._redis.zcount(key, score, "+inf") if newest else self._redis.zcount(key, "-inf", score)
        return int(found)


def _packed(job: Job) -> str:
    """The fields of a job that the scripts need, as JSON. Versions are text: Lua's numbers are floating."""
    packed: dict[str, Any] = {
        "id": job.id,
        "version": str(job.version),
        "created": repr(job.created.timestamp()),
        "lists": sorted(job.lists),
        "names": sorted(job.names),
        "client": job.client,
        "stored": job.stored,
        "webhook_client": job.webhook_client,
        "record": job.model_dump_json(),
    }
    if job.webhook_due is not None:
        packed["due"] = repr(job.webhook_due)
    return json.dumps(packed)


@contextmanager
def _errors() -> Iterator[None]:
    try:
        yield
    except redis.exceptions.OutOfMemoryError as error:
        raise NoSpace("The store of jobs has no memory left.", private="It is Redis.", retry_after=60) from error
    except (redis.RedisError, OSError) as error:
        raise Unavailable("The store of jobs cannot be reached.", private=error, retry_after=5) from error
