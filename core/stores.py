"""Which store of jobs: a file of SQLite, or Redis."""

from pathlib import Path

from core.jobs import Store


def open_store(where: str) -> Store:
    """The store at `where`: a `redis://` or `rediss://` URL, or else the path of a SQLite file, made when missing.

    Nothing is opened before it is used.
    """
    if where.startswith(("redis://", "rediss://", "unix://")):
        from core.redis_store import RedisStore

        return RedisStore(where)
    from core.sqlite_store import SqliteStore

    return SqliteStore(Path(where).expanduser())
