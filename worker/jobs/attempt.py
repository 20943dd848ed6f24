"""Running a job, by its id: claim it, let a child process work, tell of it, finish it.

What is here is the same under the embedded supervisor and under Celery, and never loads torch. Whatever dies, the
record says the truth soon: a child that dies is seen here, and when this process dies the reaper sees its silence.
"""

import logging
import shutil
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from impasto.core.errors import Conflict, Gone, ImpastoError, NoSpace, NotFound, Unavailable
from impasto.core.files import replacing, write_bytes
from impasto.core.jobs.record import Failure, Job, News, Status
from impasto.core.jobs.storage import Storage
from impasto.core.jobs.transitions import HEARTBEAT, Jobs
from impasto.core.logs import request_id
from impasto.core.nets.checkpoints import place
from impasto.core.params import TrainJobParams
from impasto.core.settings import Settings
from impasto.worker.jobs.heartbeat import Pulse
from impasto.worker.jobs.process import Child
from impasto.worker.jobs.protocol import Message, Spec

CANCEL_GRACE = 6.0
"""Seconds that a child has to hand over its best painting when the job is canceled."""
STOP_GRACE = 20.0
"""Seconds that it has to save when the worker is told to stop."""
STALE = 3600.0
"""Seconds after which nobody is at work in a folder that nobody has touched."""

log = logging.getLogger("impasto")


def run_job(
    id: str, jobs: Jobs, storage: Storage, settings: Settings, should_stop: Callable[[], bool] = lambda: False
) -> None:
    """Do one job from where it stands. Nothing to do when it is not queued: somebody else has it, or it is over.

    When `should_stop` says so the job goes back to the queue with what it has done so far.
    """
    if mine := jobs.claim(id):
        Attempt(mine, jobs, storage, settings, should_stop).run()


def clear_work(folder: Path) -> None:
    """Remove what workers that died have left in their folder."""
    for left in folder.glob("*-*"):
        with suppress(OSError):  # somebody's who is just leaving it
            if max(path.stat().st_mtime for path in (left, *left.iterdir())) < time.time() - STALE:
                shutil.rmtree(left)


class Attempt:
    """One worker's work at a job that it has claimed."""

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
        self.folder = settings.work.absolute() / f"{mine.id}-{mine.attempt}"

    def run(self) -> None:
        """To an end, whatever that is. Never raises but what the store raises when this worker is to stop."""
        request_id.set(self.mine.request)
        log.info("job %s, %s, attempt %d", self.mine.id, self.mine.kind, self.mine.attempt)
        self.pulse = Pulse(self.jobs, self.mine)
        try:
            self._fetch()
            self._end(self._work())
        except NotFound as error:  # its files are erased: it was deleted, or somebody tidied up
            self._end(Message(ending="failed", error=Failure(code=error.code, message=error.message)))
        except (Unavailable, NoSpace) as error:  # store or storage are away: nothing that the job could help
            log.warning("job %s goes back to the queue: %s", self.mine.id, error)
            self._end(Message(ending="stopped"))
            time.sleep(HEARTBEAT)
        except (ImpastoError, OSError):  # something is wrong with this machine, perhaps not with the next
            log.exception("job %s is lost here", self.mine.id)
            self._end(Message())
        finally:
            self.pulse.close()
            shutil.rmtree(self.folder, ignore_errors=True)

    def _fetch(self) -> None:
        """Fetch the files that were sent, and those that an earlier attempt had saved."""
        for old in self.folder.parent.glob(f"{self.mine.id}-*"):  # of an attempt that died here
            shutil.rmtree(old)
        self.folder.mkdir(parents=True)
        for keys in self.mine.inputs.values():
            for key in keys:
                self.storage.fetch(key, self.folder / "inputs" / key.rsplit("/", 1)[1])
        for name in ("state", "losses"):
            if key := self.mine.files.get(name, ""):
                self.storage.fetch(key, self.folder / f"{name}{Path(key).suffix}")

    def _work(self) -> Message:
        """Start the child and listen to it until its end, which is the answer."""
        secrets = {"store": "", "storage": "", "broker": "", "webhook_secret": ""}  # which a child has no use for
        spec = Spec(job=self.mine, settings=self.settings.model_copy(update=secrets))
        write_bytes(self.folder / "spec.json", spec.model_dump_json().encode())
        with Child(self.folder) as child:
            while True:
                message = child.message(timeout=0.25)
                if message:
                    self.pulse.tell(News(progress=message.progress, files=self._keep(message.files)))
                    if message.ending:
                        return message
                if self.pulse.lost:
                    return Message(ending="stopped")
                if self.pulse.cancel:
                    child.order("cancel", CANCEL_GRACE)
                elif self.should_stop():
                    child.order("stop", STOP_GRACE)
                if child.gone:
                    return self._ending_of(child)

    def _ending_of(self, child: Child) -> Message:
        """Of one that was killed because it did not obey in time, or by something else: that is no ending."""
        if child.ordered == "cancel":
            return Message(ending="canceled")
        if child.ordered == "stop":
            return Message(ending="stopped")
        log.error("job %s: its process ended with %s", self.mine.id, child.returncode)
        return Message()

    def _keep(self, files: dict[str, str]) -> dict[str, str]:
        """Put files where others find them; their keys. Without room a preview is left out, and a result waits."""
        keys = {}
        for name, file in files.items():
            key = f"jobs/{self.mine.id}/{self.mine.attempt}/{name}{Path(file).suffix}"
            while name not in keys:
                try:
                    self.storage.put(key, self.folder / file)
                    keys[name] = key
                except (NoSpace, Unavailable) as error:
                    if name != "result":
                        log.warning("job %s goes on without its %s: %s", self.mine.id, name, error)
                        break
                    if self.pulse.lost or self.pulse.cancel or self.should_stop():
                        raise
                    log.warning("job %s waits with its result: %s", self.mine.id, error)
                    time.sleep(2)
        return keys

    def _end(self, message: Message) -> None:
        """The last transition, repeated until the store has taken it."""
        news, ending = self.pulse.close(), message.ending
        if ending is None:
            self._persist(lambda: self.jobs.lose(self.mine, news))
        elif ending == "stopped":
            self._persist(lambda: self.jobs.release(self.mine, news))
        else:
            published, error = None, message.error
            if ending == "succeeded" and self.mine.publishes:
                try:
                    published = self._publish()
                except Conflict as taken:
                    ending, error = "failed", Failure(code=taken.code, message=taken.message)
            ended = self._persist(lambda: self.jobs.finish(self.mine, ending, news, error))
            if ended:
                for attempt in range(1, self.mine.attempt + 1):  # nobody will go on from there
                    self.storage.erase(f"jobs/{self.mine.id}/{attempt}/state.pt")
            elif published and self._status() in (None, "canceled"):
                published.unlink(missing_ok=True)
                _publisher(published).unlink(missing_ok=True)
            log.info("job %s %s", self.mine.id, ending)
        if self._status() is None:
            self.storage.erase(f"jobs/{self.mine.id}")

    def _publish(self) -> Path:
        """Let the zoo have a trained network, once: an attempt before this one may have, and not lived to tell.

        Raises Conflict where the name is another's: nothing is replaced, whatever was checked when the job came.
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
        """The status of the job now; None when it is deleted."""
        try:
            return self.jobs.get(self.mine.id).status
        except (NotFound, Gone):
            return None

    def _persist(self, change: Callable[[], Job | None]) -> Job | None:
        """A transition that must not be lost because the store is away for a while."""
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
