"""The queue on disk: jobs in SQLite (write-ahead log), their pictures in a private folder beside it.

Everything that must survive a ``kill -9`` goes through here: a job is in the table only after its pictures are on disk,
and its result's row is written only after the result is. Files that no row refers to are removed when the store opens.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sqlite3
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from impasto.errors import OutputError, UsageError

__all__ = ["ACTIVE", "ENDED", "JobRecord", "JobStore", "OpenBatch"]

ACTIVE = ("queued", "running")
ENDED = ("done", "failed", "cancelled")
MOST_RESTARTS = 3  # a job that was running when the server died so often is given up

_SCHEMA = """
CREATE TABLE IF NOT EXISTS jobs (
    sequence INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    batch TEXT,
    pool TEXT NOT NULL,
    engine TEXT NOT NULL,
    name TEXT NOT NULL,
    status TEXT NOT NULL,
    job_order TEXT NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0,
    restarts INTEGER NOT NULL DEFAULT 0,
    created REAL NOT NULL,
    started REAL,
    finished REAL,
    result TEXT,
    error TEXT
);
CREATE INDEX IF NOT EXISTS jobs_by_status ON jobs (status, pool, sequence);
CREATE INDEX IF NOT EXISTS jobs_by_batch ON jobs (batch, sequence);
CREATE TABLE IF NOT EXISTS pictures (
    job TEXT NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    key TEXT NOT NULL,
    PRIMARY KEY (job, key)
);
CREATE INDEX IF NOT EXISTS pictures_by_key ON pictures (key);
CREATE TABLE IF NOT EXISTS open_batches (
    id TEXT PRIMARY KEY,
    pool TEXT NOT NULL,
    job_order TEXT NOT NULL,
    touched REAL NOT NULL
);
CREATE TABLE IF NOT EXISTS open_batch_pictures (
    batch TEXT NOT NULL REFERENCES open_batches (id) ON DELETE CASCADE,
    key TEXT NOT NULL,
    PRIMARY KEY (batch, key)
);
"""
_VERSION = 1


@dataclass(frozen=True)
class JobRecord:
    """One row: a job as it stands.

    Attributes:
        sequence: its place in the order of arrival.
        id: what clients call it; not to be guessed.
        batch: id of the batch it belongs to, or None.
        pool: ``fast`` or ``slow``.
        engine: name of the engine.
        name: of the result, for downloads.
        status: ``queued``, ``running``, ``done``, ``failed`` or ``cancelled``.
        order: for the worker; empty when it has ended.
        attempts: workers that began with it.
        restarts: times the server went away while it ran.
        created: seconds since 1970, like the other times.
        started: when the last attempt began.
        finished: when it ended.
        result: facts of the result.
        error: a problem, if it failed.
    """

    sequence: int
    id: str
    batch: str | None
    pool: str
    engine: str
    name: str
    status: str
    order: dict[str, Any] = field(repr=False)
    attempts: int
    restarts: int
    created: float
    started: float | None
    finished: float | None
    result: dict[str, Any] | None
    error: dict[str, Any] | None

    @property
    def ended(self) -> bool:
        """Whether nothing more will happen to it."""
        return self.status in ENDED


@dataclass(frozen=True)
class OpenBatch:
    """A batch to which photographs may still be added.

    Attributes:
        id: of the batch.
        pool: ``fast`` or ``slow``.
        order: what all its jobs have in common, without a content.
    """

    id: str
    pool: str
    order: dict[str, Any] = field(repr=False)


_COLUMNS = (
    "sequence, id, batch, pool, engine, name, status, job_order, attempts, restarts, created, started, finished, "
    "result, error"
)


class JobStore:
    """Jobs and their pictures. Methods may be called from any thread; one process at a time owns the folder.

    Args:
        folder: created if it is missing, readable by the owner only.

    Raises:
        OutputError: the folder cannot be used.
        UsageError: another server uses it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._pictures, self._results, self.temporary = folder / "pictures", folder / "results", folder / "temporary"
        with contextlib.ExitStack() as opened:
            try:
                for path in (folder, self._pictures, self._results, self.temporary):
                    path.mkdir(mode=0o700, parents=True, exist_ok=True)
                self._lock_file = opened.enter_context(_locked(folder / "lock"))
                self._database = sqlite3.connect(
                    folder / "jobs.sqlite", check_same_thread=False, isolation_level=None, timeout=30
                )
                opened.callback(self._database.close)
                self._prepare()
            except (OSError, sqlite3.Error) as error:
                raise OutputError(
                    f"the state folder '{folder}' cannot be used: {error}; name another one with --state"
                ) from error
            opened.pop_all()
        self._files_lock = threading.RLock()  # taken before the other one, never after it
        self._lock = threading.RLock()  # of the database, held for moments: the event loop waits for it
        self._clean()
        self.bytes = sum(path.stat().st_size for path in self._files())

    def _prepare(self) -> None:
        """Settings and tables of the database.

        Raises:
            OutputError: another version of impasto wrote it.
        """
        for setting in ("journal_mode = WAL", "synchronous = NORMAL", "foreign_keys = ON", "secure_delete = ON"):
            self._database.execute(f"PRAGMA {setting}")
        (version,) = self._database.execute("PRAGMA user_version").fetchone()
        if version not in (0, _VERSION):
            raise OutputError(
                f"the state folder '{self.folder}' was written by another version of impasto; "
                "name another one with --state"
            )
        self._database.execute(f"PRAGMA user_version = {_VERSION}")
        self._database.executescript(_SCHEMA)

    def close(self) -> None:
        """Give the folder back; closing it twice is no error."""
        with self._files_lock, self._lock:
            self._database.close()
            self._lock_file.close()

    # -- writing -------------------------------------------------------------------------------------------------------

    def add(self, jobs: Sequence[Mapping[str, Any]], pictures: Mapping[str, bytes]) -> None:
        """Put jobs into the queue, all or none.

        Args:
            jobs: each with ``id``, ``batch``, ``pool``, ``engine``, ``name``, ``order`` and ``keys`` of its pictures.
            pictures: bytes by key.

        Raises:
            OutputError: they cannot be written.
        """
        with self._files_lock:
            try:
                for key, data in pictures.items():
                    self._write(self._pictures / key, data)
                with self._lock, self._transaction():
                    for job in jobs:
                        self._database.execute(
                            "INSERT INTO jobs (id, batch, pool, engine, name, status, job_order, created) "
                            "VALUES (?, ?, ?, ?, ?, 'queued', ?, ?)",
                            (
                                job["id"],
                                job["batch"],
                                job["pool"],
                                job["engine"],
                                job["name"],
                                json.dumps(job["order"]),
                                time.time(),
                            ),
                        )
                        self._database.executemany(
                            "INSERT OR IGNORE INTO pictures (job, key) VALUES (?, ?)",
                            [(job["id"], key) for key in job["keys"]],
                        )
            except (OSError, sqlite3.Error) as error:
                self._drop_pictures(pictures)
                raise OutputError(f"the job cannot be stored: {error}") from error

    def open_batch(self, batch: OpenBatch, pictures: Mapping[str, bytes]) -> None:
        """Begin a batch that grows; the pictures that all its jobs need stay until it is closed.

        Raises:
            OutputError: it cannot be written.
        """
        with self._files_lock:
            try:
                for key, data in pictures.items():
                    self._write(self._pictures / key, data)
                with self._lock, self._transaction():
                    self._database.execute(
                        "INSERT INTO open_batches (id, pool, job_order, touched) VALUES (?, ?, ?, ?)",
                        (batch.id, batch.pool, json.dumps(batch.order), time.time()),
                    )
                    self._database.executemany(
                        "INSERT INTO open_batch_pictures (batch, key) VALUES (?, ?)",
                        [(batch.id, key) for key in pictures],
                    )
            except (OSError, sqlite3.Error) as error:
                self._drop_pictures(pictures)
                raise OutputError(f"the batch cannot be stored: {error}") from error

    def touch_batch(self, batch_id: str) -> None:
        """Somebody still adds to a batch."""
        self._execute("UPDATE open_batches SET touched = ? WHERE id = ?", (time.time(), batch_id))

    def close_batch(self, batch_id: str) -> bool:
        """Nothing is added to a batch any more; False if it was closed before."""
        with self._files_lock:
            keys = [row[0] for row in self._all("SELECT key FROM open_batch_pictures WHERE batch = ?", (batch_id,))]
            with self._lock:
                changed = self._database.execute("DELETE FROM open_batches WHERE id = ?", (batch_id,)).rowcount
            self._drop_pictures(keys)
            return bool(changed)

    def forgotten_batches(self, before: float) -> list[str]:
        """Open batches to which nothing was added since a time."""
        return [row[0] for row in self._all("SELECT id FROM open_batches WHERE touched < ?", (before,))]

    def claim(self, pool: str) -> JobRecord | None:
        """The oldest waiting job of a pool, now running; None if none waits."""
        with self._lock:
            row = self._database.execute(
                f"UPDATE jobs SET status = 'running', started = ? WHERE sequence = (SELECT sequence FROM jobs "
                f"WHERE status = 'queued' AND pool = ? ORDER BY sequence LIMIT 1) RETURNING {_COLUMNS}",
                (time.time(), pool),
            ).fetchone()
        return None if row is None else _record(row)

    def count_attempt(self, job_id: str) -> None:
        """A worker began with a job."""
        self._execute("UPDATE jobs SET attempts = attempts + 1, started = ? WHERE id = ?", (time.time(), job_id))

    def finish(self, job_id: str, facts: Mapping[str, Any], data: bytes) -> None:
        """A job is done: its result, and the end of its pictures.

        Raises:
            OutputError: the result cannot be written.
        """
        with self._files_lock:
            try:
                self._write(self._results / job_id, data)
            except OSError as error:
                raise OutputError(f"the result cannot be stored: {error}") from error
            facts = dict(facts) | {"bytes": len(data)}
            if not self._end(job_id, "done", result=facts):
                self._unlink(self._results / job_id)

    def fail(self, job_id: str, error: Mapping[str, Any]) -> None:
        """A job cannot be done."""
        self._end(job_id, "failed", error=dict(error))

    def cancel(self, job_id: str) -> bool:
        """A job is not wanted any more; False if it had ended before."""
        return self._end(job_id, "cancelled")

    def _end(self, job_id: str, status: str, *, result: Any = None, error: Any = None) -> bool:
        with self._files_lock:
            keys = self._keys_of(job_id)
            with self._lock, self._transaction():
                changed = self._database.execute(
                    "UPDATE jobs SET status = ?, finished = ?, result = ?, error = ?, job_order = '{}' "
                    "WHERE id = ? AND status IN ('queued', 'running')",
                    (status, time.time(), _dumped(result), _dumped(error), job_id),
                ).rowcount
                if changed:
                    self._database.execute("DELETE FROM pictures WHERE job = ?", (job_id,))
            if changed:
                self._drop_pictures(keys)
            return bool(changed)

    def remove(self, job_ids: Iterable[str]) -> None:
        """Forget jobs, with everything of theirs."""
        with self._files_lock:
            for job_id in job_ids:
                keys = self._keys_of(job_id)
                self._execute("DELETE FROM jobs WHERE id = ?", (job_id,))
                self._drop_pictures(keys)
                self._unlink(self._results / job_id)

    def expire(self, before: float) -> list[str]:
        """Forget jobs that ended before a time; gives their ids. A batch goes as a whole, when all of it has ended."""
        rows = self._all(
            "SELECT id FROM jobs WHERE finished < ? AND status IN ('done', 'failed', 'cancelled') AND "
            "(batch IS NULL OR (batch NOT IN (SELECT id FROM open_batches) AND NOT EXISTS (SELECT 1 FROM jobs AS other "
            "WHERE other.batch = jobs.batch AND (other.finished IS NULL OR other.finished >= ?))))",
            (before, before),
        )
        ids = [row[0] for row in rows]
        self.remove(ids)
        return ids

    def recover(self) -> tuple[int, list[str]]:
        """After a restart: what was running waits again, unless it took the server down too often.

        Returns:
            How many jobs wait, and the ids of those that were given up.
        """
        error = {
            "type": "urn:impasto:problem:crashed",
            "title": "The worker that painted this ended unexpectedly",
            "status": 500,
            "detail": f"the server went away {MOST_RESTARTS} times while it painted this",
        }
        with self._files_lock, self._lock:
            self._database.execute("UPDATE jobs SET restarts = restarts + 1 WHERE status = 'running'")
            hopeless = [
                row[0]
                for row in self._all("SELECT id FROM jobs WHERE status = 'running' AND restarts >= ?", (MOST_RESTARTS,))
            ]
            for job_id in hopeless:
                self.fail(job_id, error)
            self._database.execute("UPDATE jobs SET status = 'queued' WHERE status = 'running'")
            ((waiting,),) = self._all("SELECT count(*) FROM jobs WHERE status = 'queued'")
        return int(waiting), hopeless

    # -- reading -------------------------------------------------------------------------------------------------------

    def get(self, job_id: str) -> JobRecord | None:
        """A job, None if there is none of that id."""
        rows = self._all(f"SELECT {_COLUMNS} FROM jobs WHERE id = ?", (job_id,))
        return _record(rows[0]) if rows else None

    def batch(self, batch_id: str) -> list[JobRecord]:
        """The jobs of a batch in their order; empty if there is none of that id."""
        rows = self._all(f"SELECT {_COLUMNS} FROM jobs WHERE batch = ? ORDER BY sequence", (batch_id,))
        return [_record(row) for row in rows]

    def opened(self, batch_id: str) -> OpenBatch | None:
        """A batch that still grows, None if there is none of that id or it is closed."""
        rows = self._all("SELECT id, pool, job_order FROM open_batches WHERE id = ?", (batch_id,))
        return OpenBatch(rows[0][0], rows[0][1], json.loads(rows[0][2])) if rows else None

    def position(self, record: JobRecord) -> int:
        """Jobs that wait before this one."""
        ((count,),) = self._all(
            "SELECT count(*) FROM jobs WHERE status = 'queued' AND pool = ? AND sequence < ?",
            (record.pool, record.sequence),
        )
        return int(count)

    def counts(self) -> dict[str, int]:
        """Number of jobs by status."""
        found = dict(self._all("SELECT status, count(*) FROM jobs GROUP BY status"))
        return {status: int(found.get(status, 0)) for status in (*ACTIVE, *ENDED)}

    def pictures(self, job_id: str) -> dict[str, bytes]:
        """The pictures of a job that waits or runs, by key.

        Raises:
            OutputError: one is gone.
        """
        with self._files_lock:
            try:
                return {key: (self._pictures / key).read_bytes() for key in self._keys_of(job_id)}
            except OSError as error:
                raise OutputError(f"a picture of the job is gone: {error}") from error

    def result(self, job_id: str) -> Path:
        """Where the result of a job lies that is done."""
        return self._results / job_id

    # -- inside --------------------------------------------------------------------------------------------------------

    def _execute(self, statement: str, values: Sequence[Any]) -> None:
        with self._lock:
            self._database.execute(statement, values)

    def _all(self, statement: str, values: Sequence[Any] = ()) -> list[Any]:
        with self._lock:
            return self._database.execute(statement, values).fetchall()

    def _keys_of(self, job_id: str) -> list[str]:
        return [row[0] for row in self._all("SELECT key FROM pictures WHERE job = ?", (job_id,))]

    def _drop_pictures(self, keys: Iterable[str]) -> None:
        """Remove the files that no job needs any more."""
        used = "SELECT 1 FROM pictures WHERE key = ? UNION ALL SELECT 1 FROM open_batch_pictures WHERE key = ? LIMIT 1"
        for key in keys:
            if not self._all(used, (key, key)):
                self._unlink(self._pictures / key)

    @contextlib.contextmanager
    def _transaction(self) -> Any:
        self._database.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._database.execute("COMMIT")
        except BaseException:
            if self._database.in_transaction:  # SQLite has rolled back by itself after some errors, such as a full disk
                self._database.execute("ROLLBACK")
            raise

    def _write(self, path: Path, data: bytes) -> None:
        """A file that is whole or not there."""
        if path.exists():
            return
        draft = path.with_name(f"{path.name}.part")
        try:
            with draft.open("wb") as stream:
                stream.write(data)
                stream.flush()
                os.fsync(stream.fileno())
            draft.replace(path)
        finally:
            draft.unlink(missing_ok=True)
        self.bytes += len(data)

    def _unlink(self, path: Path) -> None:
        with contextlib.suppress(FileNotFoundError):
            size = path.stat().st_size
            path.unlink()
            self.bytes -= size

    def _files(self) -> list[Path]:
        return [path for folder in (self._pictures, self._results) for path in folder.iterdir() if path.is_file()]

    def _clean(self) -> None:
        """Remove what a server that was killed left half done."""
        known = {row[0] for row in self._all("SELECT key FROM pictures UNION SELECT key FROM open_batch_pictures")}
        done = {row[0] for row in self._all("SELECT id FROM jobs WHERE status = 'done'")}
        for folder, names in ((self._pictures, known), (self._results, done)):
            for path in folder.iterdir():
                if path.name not in names:
                    path.unlink(missing_ok=True)
        for path in self.temporary.iterdir():
            shutil.rmtree(path, ignore_errors=True)


def _record(row: Sequence[Any]) -> JobRecord:
    values = list(row)
    values[7] = json.loads(values[7])
    values[13], values[14] = (None if text is None else json.loads(text) for text in values[13:15])
    return JobRecord(*values)


def _dumped(value: Any) -> str | None:
    return None if value is None else json.dumps(value)


def _locked(path: Path) -> BinaryIO:
    """An open file that only one process can hold; the system lets go of it when the process ends, however it ends.

    Raises:
        UsageError: another process holds it.
    """
    stream = path.open("a+b")
    try:
        try:
            import fcntl
        except ImportError:  # Windows
            import msvcrt

            stream.seek(0)
            msvcrt.locking(stream.fileno(), msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined,unused-ignore]
        else:
            fcntl.flock(stream.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        stream.close()
        raise UsageError(
            f"another impasto server uses the folder '{path.parent}'; name another one with --state"
        ) from error
    return stream
