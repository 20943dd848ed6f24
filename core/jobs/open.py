"""Which store of jobs: a file of SQLite, or Redis."""

from pathlib import Path

from impasto.core.jobs.record import Store


def open_store(where: str) -> Store:
    """The store at `where`: a `redis://` or `rediss://` URL, or else the path of a SQLite file, made when missing.

    Nothing is opened before it is used.
    """
    if where.startswith(("redis://", "rediss://", "unix://")):
        from impasto.core.jobs.redis import RedisStore

        return RedisStore(where)
    from impasto.core.jobs.sqlite import SqliteStore

    return SqliteStore(Path(where).expanduser())
