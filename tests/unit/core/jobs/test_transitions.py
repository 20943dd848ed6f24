"""Records, their transitions and both stores: what holds for one holds for the other."""

import threading
from datetime import UTC, datetime, timedelta

import pytest

from impasto.core.errors import Conflict, Gone, NotFound, Unavailable
from impasto.core.jobs.open import open_store
from impasto.core.jobs.record import Failure, Job, News, Progress
from impasto.core.jobs.redis import RedisStore
from impasto.core.jobs.sqlite import SqliteStore
from impasto.core.jobs.transitions import LEASE, LOSSES, SILENCE, Jobs
from tests.helpers.servers import free_port


def job(number: int = 0, **changes) -> Job:
    created = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=number)
    return Job(**{"kind": "gatys", "params": {"style": "wave"}, "created": created, **changes})


def test_a_record_comes_back_as_it_was(jobs):
    sent = job(inputs={"image": ["a/b.png"]}, webhook="https://example.org/x?y=1", publishes="aonet/mine/sunset")
    assert jobs.submit(sent) == sent
    assert jobs.get(sent.id) == sent


def test_ids_are_128_random_bits():
    ids = {job().id for _ in range(100)}
    assert len(ids) == 100
    assert all(len(id) == 32 and int(id, 16) >= 0 for id in ids)


def test_an_unknown_id_is_told_from_an_expired_one(jobs):
    sent = jobs.submit(job())
    jobs.store.remove(sent.id, expired=True)
    with pytest.raises(Gone):
        jobs.get(sent.id)
    with pytest.raises(NotFound):
        jobs.get("0" * 32)
    jobs.store.remove(sent.id)  # again: nothing to do
    deleted = jobs.submit(job())
    jobs.store.remove(deleted.id)
    with pytest.raises(NotFound):
        jobs.get(deleted.id)


def test_the_whole_way(jobs, clock):
    sent = jobs.submit(job())
    mine = jobs.claim(sent.id)
    assert (mine.status, mine.attempt) == ("running", 1)
    assert mine.started.timestamp() == clock.now
    clock.now += 3
    beat = jobs.beat(
        mine, News(progress=Progress(step=5, total=10, losses={"total": 0.1}, eta_s=2.5), files={"preview": "p"})
    )
    assert beat.progress.losses == {"total": 0.1}
    assert (beat.files, beat.previews, beat.beat) == ({"preview": "p"}, 1, clock.now)
    assert jobs.beat(mine).progress.step == 5  # a sign of life takes nothing away
    done = jobs.finish(mine, "succeeded", News(files={"result": "r"}))
    assert done.over
    assert done.files == {"preview": "p", "result": "r"}
    assert jobs.get(sent.id) == done
    assert done.finished.timestamp() == clock.now


def test_a_job_is_claimed_once_by_many(jobs):
    ids = [jobs.submit(job(number)).id for number in range(12)]
    claimed: list[str] = []

    def work() -> None:
        while mine := jobs.claim_next("gatys"):
            claimed.append(mine.id)

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(claimed) == sorted(ids)


def test_the_oldest_is_next_and_kinds_are_apart(jobs):
    new, old = job(2, client="ann"), job(1, client="bob")
    training = job(0, kind="train")
    for sent in (new, training, old):
        jobs.submit(sent)
    assert jobs.claim_next("gatys").id == old.id
    assert jobs.claim_next("gatys").id == new.id
    assert jobs.claim_next("gatys") is None
    assert jobs.claim_next("train").id == training.id


def test_who_has_lost_a_job_changes_nothing(jobs, clock):
    sent = jobs.submit(job())
    first = jobs.claim(sent.id)
    clock.now += LEASE + 1
    assert [requeued.id for requeued in jobs.reap()] == [sent.id]
    second = jobs.claim(sent.id)
    assert second.attempt == 2
    assert jobs.beat(first) is None
    assert jobs.finish(first, "succeeded") is None
    assert jobs.release(first) is None
    assert jobs.lose(first) is None
    assert jobs.get(sent.id) == second
    assert jobs.finish(second, "succeeded").status == "succeeded"
    assert jobs.finish(second, "failed") is None  # once


def test_signs_of_life_keep_a_job(jobs, clock):
    mine = jobs.claim(jobs.submit(job()).id)
    for _ in range(5):
        clock.now += LEASE - 1
        assert jobs.beat(mine)
        assert jobs.reap() == []


def test_the_third_loss_is_the_end(jobs, clock):
    sent = jobs.submit(job())
    for attempt in range(1, LOSSES + 1):
        assert jobs.claim(sent.id).attempt == attempt
        clock.now += LEASE + 1
        jobs.reap()
    failed = jobs.get(sent.id)
    assert (failed.status, failed.error.code, failed.attempt) == ("failed", "worker_lost", 3)
    assert jobs.claim(sent.id) is None


def test_giving_back_is_no_loss(jobs):
    sent = jobs.submit(job())
    for _ in range(2 * LOSSES):
        assert jobs.release(jobs.claim(sent.id)).status == "queued"
    assert jobs.get(sent.id).lost == 0


def test_cancel_while_queued(jobs):
    sent = jobs.submit(job())
    assert jobs.cancel(sent.id).status == "canceled"
    assert jobs.claim(sent.id) is None
    assert jobs.claim_next("gatys") is None


def test_cancel_while_running_is_the_workers_to_do(jobs, clock):
    mine = jobs.claim(jobs.submit(job()).id)
    assert jobs.cancel(mine.id).status == "running"
    assert jobs.beat(mine).cancel
    assert jobs.finish(mine, "canceled").status == "canceled"


def test_cancel_does_not_wait_for_a_dead_worker(jobs, clock):
    before = jobs.claim(jobs.submit(job(1)).id)
    after = jobs.claim(jobs.submit(job(2)).id)
    jobs.cancel(after.id)  # the worker was still alive, or seemed so
    clock.now += SILENCE + 1
    assert jobs.cancel(before.id).status == "canceled"
    jobs.reap()
    assert jobs.get(after.id).status == "canceled"


def test_cancel_wins_over_giving_back(jobs):
    mine = jobs.claim(jobs.submit(job()).id)
    jobs.cancel(mine.id)
    assert jobs.release(mine).status == "canceled"


def test_what_is_over_stays_so(jobs):
    mine = jobs.claim(jobs.submit(job()).id)
    failed = jobs.finish(mine, "failed", error=Failure(code="x", message="y"))
    assert jobs.cancel(mine.id) == failed
    assert jobs.reap() == []


def test_an_idempotency_key_gives_the_same_job(jobs):
    first = jobs.submit(job(idempotency_key="k", fingerprint="a"))
    assert jobs.submit(job(idempotency_key="k", fingerprint="a")).id == first.id
    with pytest.raises(Conflict, match="used before"):
        jobs.submit(job(idempotency_key="k", fingerprint="b"))
    jobs.store.remove(first.id)
    assert jobs.submit(job(idempotency_key="k", fingerprint="b")).id != first.id


def test_one_training_at_a_time_has_a_name(jobs):
    first = jobs.submit(job(kind="train", publishes="aonet/mine/sunset"))
    with pytest.raises(Conflict, match="sunset"):
        jobs.submit(job(kind="train", publishes="aonet/mine/sunset", idempotency_key="k"))
    jobs.cancel(first.id)
    jobs.submit(job(kind="train", publishes="aonet/mine/sunset", idempotency_key="k"))


def test_pages(jobs):
    ids = [jobs.submit(job(number)).id for number in range(5)]
    jobs.cancel(ids[3])
    newest = jobs.store.list("all", newest=True, limit=2)
    assert [one.id for one in newest] == [ids[4], ids[3]]
    assert [one.id for one in jobs.store.list("all", newest=True, after=newest[-1])] == [ids[2], ids[1], ids[0]]
    assert [one.id for one in jobs.store.list("queued")] == [ids[0], ids[1], ids[2], ids[4]]
    assert [one.id for one in jobs.store.list("queued", after=jobs.get(ids[0]), limit=1)] == [ids[1]]
    assert [one.id for one in jobs.store.list("canceled")] == [ids[3]]


def test_a_page_goes_on_after_a_job_that_has_left_the_list(jobs):
    ids = [jobs.submit(job(number)).id for number in range(4)]
    last = jobs.get(ids[2])
    jobs.cancel(last.id)
    assert [one.id for one in jobs.store.list("queued", newest=True, after=last)] == [ids[1], ids[0]]
    assert [one.id for one in jobs.store.list("queued", after=last)] == [ids[3]]


def test_a_submission_that_is_repeated_to_the_store_changes_nothing(jobs):
    """As a client of Redis does when the answer was lost."""
    sent = jobs.submit(job(idempotency_key="k"))
    jobs.claim(sent.id)
    assert jobs.store.add(sent) in (None, sent.id)
    assert jobs.get(sent.id).status == "running"


def test_a_webhook_is_called_by_one_worker(jobs):
    over = jobs.cancel(jobs.submit(job(webhook="https://example.org")).id)
    assert jobs.begin_call(over, 30).calls == 1
    assert jobs.begin_call(over, 30) is None


def due(jobs: Jobs, limit: int = 10) -> dict[str, list[str]]:
    """The ids of the jobs whose webhooks are due, by client."""
    now = jobs.clock()
    return {
        client: [one.id for one in jobs.store.webhooks_due(client, now, limit)]
        for client in jobs.store.webhook_clients(now)
    }


def test_a_webhook_is_due_when_its_job_is_over_and_a_pause_after_each_call(jobs, clock):
    sent = jobs.submit(job(webhook="https://example.org/x"))
    assert due(jobs) == {}
    over = jobs.cancel(sent.id)
    assert due(jobs) == {"host example.org": [sent.id]}
    jobs.begin_call(over, 30)
    assert due(jobs) == {}
    clock.now += 30
    assert due(jobs) == {"host example.org": [sent.id]}
    jobs.mark(sent.id, notified=True)
    assert due(jobs) == {}
    clock.now += 1e6
    assert due(jobs) == {}


def test_webhooks_are_listed_by_client_the_longest_due_first(jobs, clock):
    """A client is a key, or where there is none a receiving host."""
    hooks = [("ann", "http://a.org"), ("ann", "http://b.org"), (None, "http://a.org"), (None, "https://A.org:8443/x")]
    ids = []
    for number, (owner, url) in enumerate(reversed(hooks)):  # created in another order than they end
        ids.insert(0, jobs.submit(job(number, owner=owner, webhook=url)).id)
    for id in ids:
        clock.now += 1
        jobs.cancel(id)
    assert due(jobs) == {"key ann": ids[:2], "host a.org": ids[2:]}
    assert due(jobs, limit=1) == {"key ann": ids[:1], "host a.org": ids[2:3]}
    jobs.begin_call(jobs.get(ids[0]), 5)
    assert due(jobs) == {"key ann": ids[1:2], "host a.org": ids[2:]}
    clock.now += 5
    assert due(jobs)["key ann"] == [ids[1], ids[0]]


def test_the_webhook_of_an_erased_job_is_not_due(jobs):
    sent = jobs.submit(job(webhook="https://example.org"))
    jobs.cancel(sent.id)
    jobs.store.remove(sent.id)
    assert due(jobs) == {}


def test_a_record_from_before_webhooks_had_a_time_is_due_at_once(jobs):
    sent = jobs.submit(job(webhook="https://example.org"))
    old = jobs.cancel(sent.id).model_dump()
    del old["call_at"]
    read = Job(**old)
    assert read.webhook_due == read.finished.timestamp()


def test_a_store_that_is_away_says_so(tmp_path):
    (tmp_path / "file").write_text("")
    for store in (SqliteStore(tmp_path / "file" / "jobs"), RedisStore(f"redis://127.0.0.1:{free_port()}/0")):
        with pytest.raises(Unavailable) as caught:
            store.get("x")
        assert caught.value.extra["retry_after"] > 0
        store.close()


def test_two_processes_see_one_store(store_url):
    one, other = Jobs(open_store(store_url)), Jobs(open_store(store_url))
    sent = one.submit(job())
    assert other.claim(sent.id)
    assert one.claim(sent.id) is None
    one.store.close()
    other.store.close()
