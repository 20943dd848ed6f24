"""One attempt at a job: claim it, let a child process work, report its progress, finish it.

The same code runs under the embedded supervisor and under Celery, and never loads torch. A child that dies is noticed
here; when this process dies, the reaper notices that its heartbeat has stopped.
"""

import logging
import shutil
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from impasto.core.errors import Conflict, Gone, ImpastoError, NoSpace, NotFound, Unavailable
from impasto.core.files import replacing, write_bytes
from impasto.core.jobs.record import Failure, Job, Kind, News, Status
from impasto.core.jobs.storage import Storage
from impasto.core.jobs.transitions import HEARTBEAT, Jobs
from impasto.core.logs import request_id
from impasto.core.nets.checkpoints import place
from impasto.core.params import TrainJobParams
from impasto.core.settings import Settings
from impasto.worker.jobs.heartbeat import Heartbeat
from impasto.worker.jobs.process import Child
from impasto.worker.jobs.protocol import Message, Spec

CANCEL_GRACE = 6.0
"""Seconds that a child has to hand over its best painting when the job is canceled."""
STOP_GRACE = 20.0
"""Seconds that a child has to save its state when the worker is told to stop."""
TURN = 600.0
"""Seconds that a job may work while another client waits."""
LOOK_EVERY = 15.0
"""Seconds between two looks whether one waits, after that."""
STALE = 3600.0
"""Seconds without a change after which a folder counts as abandoned."""

log = logging.getLogger("impasto")


def run_next(
    kind: Kind, jobs: Jobs, storage: Storage, settings: Settings, should_stop: Callable[[], bool] = lambda: False
) -> bool:
    """Do the job of this kind whose turn it is, from its last checkpoint. Return whether there was one.

    When `should_stop` becomes true, the job goes back to the queue with its state.
    """
    mine = jobs.claim_next(kind)
    if mine:
        Attempt(mine, jobs, storage, settings, should_stop).run()
    return mine is not None


def clear_work(folder: Path) -> None:
    """Remove the folders of workers that died."""
    for left in folder.glob("*-*"):
        with suppress(OSError):  # its worker is just removing it
            if max(path.stat().st_mtime for path in (left, *left.iterdir())) < time.time() - STALE:
                shutil.rmtree(left)


class Attempt:
    """The work of one worker at a job that it has claimed."""

    def __init__(
        self,
        mine: Job,
        jobs: Jobs,
        storage: Storage,
        settings: Settings,
        should_stop: Callable[[], bool] = lambda: False,
    ) -> None:
        self.mine, self.jobs, self.storage, self.settings = mine, jobs, storage, settings
        self.should_stop = should_stop
        self.saved = self.turn_over = False
        self.look_at = time.monotonic() + TURN
        self.folder = settings.work.absolute() / f"{mine.id}-{mine.attempt}"

    def run(self) -> None:
        """Work until the job has ended in some way. Raises only what the store raises while this worker is to stop."""
        request_id.set(self.mine.request)
        log.info("job %s, %s, attempt %d", self.mine.id, self.mine.kind, self.mine.attempt)
        self.heartbeat = Heartbeat(self.jobs, self.mine)
        try:
            self._fetch()
            self._end(self._work())
        except NotFound as error:  # its files are gone: it was deleted
            self._end(Message(ending="failed", error=Failure(code=error.code, message=error.message)))
        except (Unavailable, NoSpace) as error:  # the store or the storage is away: not the job's fault
            log.warning("job %s goes back to the queue: %s", self.mine.id, error)
            self._end(Message(ending="stopped"))
            time.sleep(HEARTBEAT)
        except (ImpastoError, OSError):  # something is wrong with this machine; another may do it
            log.exception("job %s is lost here", self.mine.id)
            self._end(Message())
        finally:
            self.heartbeat.close()
            shutil.rmtree(self.folder, ignore_errors=True)

    def _fetch(self) -> None:
        """Fetch the files that were sent, and those that an earlier attempt had saved. Erase its others."""
        for old in self.folder.parent.glob(f"{self.mine.id}-*"):  # of an attempt that died here
            shutil.rmtree(old)
        self.folder.mkdir(parents=True)
        for keys in self.mine.inputs.values():
            for key in keys:
                self.storage.fetch(key, self.folder / "inputs" / key.rsplit("/", 1)[1])
        for name in ("state", "losses"):
            if key := self.mine.files.get(name, ""):
                self.storage.fetch(key, self.folder / f"{name}{Path(key).suffix}")
        named = {key.split("/")[2] for key in self.mine.files.values()}
        for group in self.storage.groups(f"jobs/{self.mine.id}"):
            if group.isdecimal() and group not in named:
                self.storage.erase(f"jobs/{self.mine.id}/{group}")

    def _work(self) -> Message:
        """Start the child and relay its messages. Return its last one."""
        secrets = {"store": "", "storage": "", "broker": "", "webhook_secret": ""}  # a child needs none of these
        spec = Spec(job=self.mine, settings=self.settings.model_copy(update=secrets))
        write_bytes(self.folder / "spec.json", spec.model_dump_json().encode())
        with Child(self.folder) as child:
            while True:
                message = child.message(timeout=0.25)
                if message:
                    kept = self._keep(message.files)
                    self.heartbeat.tell(News(progress=message.progress) | kept)
                    self.saved |= "state" in kept.files
                    if message.ending:
                        return message
                if self.heartbeat.lost:
                    return Message(ending="stopped")
                if self.heartbeat.cancel:
                    child.order("cancel", CANCEL_GRACE)
                elif self.should_stop() or self._is_turn_over():
                    child.order("stop", STOP_GRACE)
                if child.gone:
                    return self._ending_of(child)

    def _is_turn_over(self) -> bool:
        """Whether the job has had its turn and another client waits. A job that has saved nothing goes on: it would
        begin each turn at the same step."""
        if self.saved and not self.turn_over and time.monotonic() >= self.look_at:
            self.look_at = time.monotonic() + LOOK_EVERY
            with suppress(Unavailable):
                self.turn_over = self.jobs.others_wait(self.mine)
            if self.turn_over:
                log.info("job %s goes back to the queue: another client waits", self.mine.id)
        return self.turn_over

    def _ending_of(self, child: Child) -> Message:
        """Return how a child ended that did not say so: it was killed, by us after its grace, or by something else."""
        if child.ordered == "cancel":
            return Message(ending="canceled")
        if child.ordered == "stop":
            return Message(ending="stopped")
        log.error("job %s: its process ended with %s", self.mine.id, child.returncode)
        return Message()

    def _keep(self, files: dict[str, str]) -> News:
        """Upload files, and return their keys and sizes. While there is no room a preview is left out, and a result
        waits."""
        keys, sizes = dict[str, str](), dict[str, int]()
        for name, file in files.items():
            key = f"jobs/{self.mine.id}/{self.mine.attempt}/{name}{Path(file).suffix}"
            while name not in keys:
                try:
                    self.storage.put(key, self.folder / file)
                    keys[name], sizes[name] = key, (self.folder / file).stat().st_size
                except (NoSpace, Unavailable) as error:
                    if name != "result":
                        log.warning("job %s goes on without its %s: %s", self.mine.id, name, error)
                        break
                    if self.heartbeat.lost or self.heartbeat.cancel or self.should_stop():
                        raise
                    log.warning("job %s waits with its result: %s", self.mine.id, error)
                    time.sleep(2)
        return News(files=keys, sizes=sizes)

    def _end(self, message: Message) -> None:
        """Make the last transition, and repeat it until the store has taken it."""
        news, ending = self.heartbeat.close(), message.ending
        if ending is None:
            self._persist(lambda: self.jobs.lose(self.mine, news))
        elif ending == "stopped":
            self._persist(lambda: self.jobs.release(self.mine, news, self.turn_over))
        else:
            published, error = None, message.error
            if ending == "succeeded" and self.mine.publishes:
                try:
                    published = self._publish()
                except Conflict as taken:
                    ending, error = "failed", Failure(code=taken.code, message=taken.message)
            ended = self._persist(lambda: self.jobs.finish(self.mine, ending, news, error))
            if not ended and published and self._status() in (None, "canceled"):
                published.unlink(missing_ok=True)
                _publisher(published).unlink(missing_ok=True)
            log.info("job %s %s", self.mine.id, ending)
        if self._status() is None:
            self.storage.erase(f"jobs/{self.mine.id}")

    def _publish(self) -> Path:
        """Put the trained network among the models, once: an attempt before this one may have done so and then died.

        Raises Conflict where another has the name: no model is ever replaced, whatever was checked at submission.
        """
        params = TrainJobParams(**self.mine.params).training()
        path = place(self.settings.styles, params)
        mark = _publisher(path)
        if path.exists() and mark.exists() and mark.read_text() == self.mine.id:
            return path
        try:
            if place(self.settings.models, params).exists() or path.exists():
                raise FileExistsError
            write_bytes(mark, self.mine.id.encode())
            with replacing(path, exclusive=True) as temporary:
                shutil.copyfile(self.folder / "result.safetensors", temporary)
        except FileExistsError:
            raise Conflict(
                f"There is a model {self.mine.publishes} already. Submit the training again, with another name."
            ) from None
        return path

    def _status(self) -> Status | None:
        """Return the status of the job now; None if it was deleted."""
        try:
            return self.jobs.get(self.mine.id).status
        except (NotFound, Gone):
            return None

    def _persist(self, change: Callable[[], Job | None]) -> Job | None:
        """Make a transition, and try again while the store is away."""
        while True:
            try:
                return change()
            except (Unavailable, NoSpace) as error:
                if self.should_stop():
                    raise
                log.warning("%s Trying again.", error)
                time.sleep(1)


def _publisher(model: Path) -> Path:
    """The file beside a model that holds the id of the job that published it."""
    return model.with_suffix(".job")
