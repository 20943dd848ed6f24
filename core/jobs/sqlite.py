"""Jobs in one file of SQLite: store and queue of a single machine."""

import builtins
import shutil
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from impasto.core.errors import ImpastoError, NoSpace, Unavailable
from impasto.core.jobs.record import REMEMBERED, Job, no_job

PATIENCE = 2.5
"""Seconds that a call waits for another process to end its writing."""

LEAST = 100_000
"""Free bytes of a disk with which SQLite can do nothing."""

SCHEMA = """
CREATE TABLE IF NOT EXISTS jobs (id TEXT PRIMARY KEY, version INTEGER NOT NULL, record TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS lists (
    name TEXT NOT NULL, created TEXT NOT NULL, id TEXT NOT NULL, PRIMARY KEY (name, created, id)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS stored (client TEXT PRIMARY KEY, bytes INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS webhooks (
    client TEXT NOT NULL, due REAL NOT NULL, id TEXT NOT NULL, PRIMARY KEY (client, due, id)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS names (name TEXT PRIMARY KEY, id TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS expired (id TEXT PRIMARY KEY, at REAL NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS workers (kind TEXT PRIMARY KEY, at REAL NOT NULL) WITHOUT ROWID;
"""

WEBHOOK_CLIENTS = """
WITH RECURSIVE clients (client) AS (
    SELECT min(client) FROM webhooks
    UNION ALL
    SELECT (SELECT min(client) FROM webhooks WHERE client > clients.client) FROM clients WHERE client IS NOT NULL
)
SELECT client FROM clients WHERE (SELECT min(due) FROM webhooks WHERE client = clients.client) <= ?
"""
"""From client to client along the primary key: as many steps as there are clients, however many webhooks each has."""


class SqliteStore:
    """A `Store` in a file, for many threads and processes of one machine.

    Write-ahead logging lets readers go on while one writes; every commit is on the disk before it is answered.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._opened: sqlite3.Connection | None = None

    def add(self, job: Job) -> str | None:
        with self._writing() as db:
            for name in sorted(job.names):
                if row := db.execute("SELECT id FROM names WHERE name = ?", (name,)).fetchone():
                    return str(row[0])
            db.execute("INSERT INTO jobs VALUES (?, ?, ?)", (job.id, job.version, job.model_dump_json()))
            self._enlist(db, job, job.lists)
            self._count_stored(db, job.client, job.stored)
            self._schedule(db, None, job)
            db.executemany("INSERT INTO names VALUES (?, ?)", [(name, job.id) for name in job.names])
            return None

    def get(self, id: str) -> Job:
        with self._errors(), self._lock:
            row = self._db.execute("SELECT record FROM jobs WHERE id = ?", (id,)).fetchone()
            expired = not row and bool(self._db.execute("SELECT 1 FROM expired WHERE id = ?", (id,)).fetchone())
        if not row:
            raise no_job(id, expired)
        return Job.model_validate_json(row[0])

    def replace(self, old: Job, new: Job) -> bool:
        with self._writing() as db:
            done = db.execute(
                "UPDATE jobs SET version = ?, record = ? WHERE id = ? AND version = ?",
                (new.version, new.model_dump_json(), old.id, old.version),
            ).rowcount
            if done:
                self._delist(db, old, old.lists - new.lists)
                self._enlist(db, new, new.lists - old.lists)
                self._count_stored(db, new.client, new.stored - old.stored)
                self._schedule(db, old, new)
                db.executemany("DELETE FROM names WHERE name = ?", [(name,) for name in old.names - new.names])
            return bool(done)

    def remove(self, id: str, expired: bool = False) -> None:
        now = time.time()
        with self._writing() as db:
            row = db.execute("SELECT record FROM jobs WHERE id = ?", (id,)).fetchone()
            if not row:
                return
            job = Job.model_validate_json(row[0])
            db.execute("DELETE FROM jobs WHERE id = ?", (id,))
            self._delist(db, job, job.lists)
            self._count_stored(db, job.client, -job.stored)
            self._schedule(db, job, None)
            db.executemany("DELETE FROM names WHERE name = ?", [(name,) for name in job.names])
            db.execute("DELETE FROM expired WHERE at < ?", (now - REMEMBERED,))
            if expired:
                db.execute("INSERT INTO expired VALUES (?, ?)", (id, now))

    def list(
        self, name: str, *, newest: bool = False, limit: int = 100, after: Job | None = None
    ) -> builtins.list[Job]:
        order, beyond = ("DESC", "<") if newest else ("ASC", ">")
        where, place = "", builtins.list[str]()
        if after:
            where, place = f"AND (lists.created, lists.id) {beyond} (?, ?)", [_created(after), after.id]
        query = f"""SELECT record FROM lists JOIN jobs USING (id) WHERE name = ? {where}
            ORDER BY lists.created {order}, lists.id {order} LIMIT ?"""
        with self._errors(), self._lock:
            rows = self._db.execute(query, (name, *place, limit)).fetchall()
        return [Job.model_validate_json(record) for (record,) in rows]

    def count(self, name: str) -> int:
        with self._errors(), self._lock:
            return int(self._db.execute("SELECT count(*) FROM lists WHERE name = ?", (name,)).fetchone()[0])

    def stored(self, client: str) -> int:
        with self._errors(), self._lock:
            row = self._db.execute("SELECT bytes FROM stored WHERE client = ?", (client,)).fetchone()
        return int(row[0]) if row else 0

    def webhook_clients(self, by: float) -> builtins.list[str]:
        with self._errors(), self._lock:
            return [client for (client,) in self._db.execute(WEBHOOK_CLIENTS, (by,))]

    def webhooks_due(self, client: str, by: float, limit: int) -> builtins.list[Job]:
        query = "SELECT record FROM webhooks JOIN jobs USING (id) WHERE client = ? AND due <= ? ORDER BY due LIMIT ?"
        with self._errors(), self._lock:
            rows = self._db.execute(query, (client, by, limit)).fetchall()
        return [Job.model_validate_json(record) for (record,) in rows]

    def sign(self, kind: str, at: float) -> None:
        with self._writing() as db:
            db.execute("INSERT OR REPLACE INTO workers VALUES (?, ?)", (kind, at))

    def signed(self, kind: str) -> float:
        with self._errors(), self._lock:
            row = self._db.execute("SELECT at FROM workers WHERE kind = ?", (kind,)).fetchone()
        return float(row[0]) if row else 0.0

    def holder(self, name: str) -> str | None:
        with self._errors(), self._lock:
            row = self._db.execute("SELECT id FROM names WHERE name = ?", (name,)).fetchone()
        return str(row[0]) if row else None

    def close(self) -> None:
        with self._lock:
            if self._opened:
                self._opened.close()
                self._opened = None

    @property
    def _db(self) -> sqlite3.Connection:
        """The connection, made when first used: a disk that cannot be written spoils jobs and nothing else."""
        if self._opened is None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            db = sqlite3.connect(self.path, timeout=PATIENCE, isolation_level=None, check_same_thread=False)
            db.execute("PRAGMA journal_mode = WAL")
            db.execute("PRAGMA synchronous = FULL")
            db.executescript(SCHEMA)
            self._opened = db
        return self._opened

    def _enlist(self, db: sqlite3.Connection, job: Job, lists: set[str]) -> None:
        db.executemany("INSERT INTO lists VALUES (?, ?, ?)", [(name, _created(job), job.id) for name in lists])

    def _delist(self, db: sqlite3.Connection, job: Job, lists: set[str]) -> None:
        rows = [(name, _created(job), job.id) for name in lists]
        db.executemany("DELETE FROM lists WHERE name = ? AND created = ? AND id = ?", rows)

    def _count_stored(self, db: sqlite3.Connection, client: str, more: int) -> None:
        if more:
            added = "ON CONFLICT (client) DO UPDATE SET bytes = bytes + excluded.bytes"
            db.execute(f"INSERT INTO stored VALUES (?, ?) {added}", (client, more))
            db.execute("DELETE FROM stored WHERE client = ? AND bytes = 0", (client,))

    def _schedule(self, db: sqlite3.Connection, old: Job | None, new: Job | None) -> None:
        """Move a job's webhook from the time that it was due to the time that it is due now."""
        was, will = [
            (job.webhook_client, job.webhook_due, job.id) if job and job.webhook_due else None for job in (old, new)
        ]
        if was != will:
            if was:
                db.execute("DELETE FROM webhooks WHERE client = ? AND due = ? AND id = ?", was)
            if will:
                db.execute("INSERT INTO webhooks VALUES (?, ?, ?)", will)

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        """A transaction that has the right to write from its beginning: what it reads stays so."""
        with self._errors(), self._lock:
            db = self._db
            db.execute("BEGIN IMMEDIATE")
            try:
                yield db
                db.execute("COMMIT")
            except BaseException:
                if db.in_transaction:
                    db.execute("ROLLBACK")
                raise

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except ImpastoError:
            raise
        except (sqlite3.Error, OSError) as error:
            if _is_full(self.path, error):
                raise NoSpace("The disk of the store of jobs is full.", private=self.path, retry_after=60) from error
            private = f"{self.path}: {error}"
            raise Unavailable("The store of jobs cannot be used.", private=private, retry_after=5) from error


def _is_full(path: Path, error: Exception) -> bool:
    """Whether the disk is full, for which SQLite has several words: it cannot always open its files either."""
    if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL:
        return True
    return path.parent.is_dir() and shutil.disk_usage(path.parent).free < LEAST


def _created(job: Job) -> str:
    """The time of its creation, as text that sorts."""
    return job.created.isoformat(timespec="microseconds")
