from pathlib import Path
from typing import get_args

import numpy as np
import pytest

from impasto.core.errors import Busy, TooLarge
from impasto.core.memory import memory_limit
from impasto.core.names import ARCHES, Arch
from impasto.core.nets.painters import NETS
from impasto.core.settings import Settings
from impasto.core.stylize.budget import PICTURE, Budget, Work
from tests.helpers.pictures import saved
from tests.helpers.servers import service_here
from tests.service.test_stylize import problem, stylize

SQUARE = Work(100, 100, "aonet")
"""10,000 pixels, all of them shown."""


def test_every_network_has_its_facts():
    assert ARCHES.keys() == set(get_args(Arch)) == NETS.keys()


def test_what_a_work_takes():
    assert SQUARE.memory == 10_000 * (PICTURE + ARCHES["aonet"].memory)
    assert Work(100, 100).memory == 10_000 * PICTURE
    assert Work(100, 100, "vgg16", paint_size=50).memory == 10_000 * PICTURE + 2_500 * ARCHES["vgg16"].memory
    assert Work(400, 200, "aonet", max_side=100).shown == 5_000
    assert Work(400, 200, "aonet", paint_size=1280, max_side=100).shown == 5_000


def test_room_is_given_back():
    budget = Budget(SQUARE.memory)
    for _ in range(3):
        with budget.room(SQUARE):
            pass
    with pytest.raises(ZeroDivisionError), budget.room(SQUARE):
        raise ZeroDivisionError
    with budget.room(SQUARE):
        pass


def test_no_room_now_says_what_would_do_now():
    budget = Budget(SQUARE.memory + 500_000)
    with budget.room(SQUARE):
        with pytest.raises(Busy, match="are free now: ask for paint_size=") as refused, budget.room(SQUARE):
            pass
        extra = refused.value.extra
        assert extra["retry_after"] >= 1
        for name, side in extra.items() - {("retry_after", extra["retry_after"])}:
            would_do = Work(100, 100, "aonet", side) if name == "paint_size" else Work(side, side, "aonet")
            slightly_more = (
                Work(100, 100, "aonet", side + 1) if name == "paint_size" else Work(side + 1, side + 1, "aonet")
            )
            with budget.room(would_do):
                pass
            with pytest.raises(Busy), budget.room(slightly_more):
                pass
        assert {"paint_size", "scale_to"} < extra.keys()
    with budget.room(SQUARE):
        pass


def test_one_client_leaves_room_for_another():
    budget = Budget(4 * SQUARE.memory, share=0.75)
    with budget.room(SQUARE, "greedy"), budget.room(SQUARE, "greedy"), budget.room(SQUARE, "greedy"):
        with pytest.raises(Busy), budget.room(SQUARE, "greedy"):
            pass
        with budget.room(SQUARE, "stranger"):
            pass
    with pytest.raises(TooLarge, match="and the limit is"), budget.room(Work(200, 200, "aonet"), "greedy"):
        pass


def test_no_room_ever_says_what_would_do():
    budget = Budget(SQUARE.memory - 1)
    advice = "ask for paint_size=99 or scale the picture's longer side to 99"
    with pytest.raises(TooLarge, match=advice) as refused, budget.room(SQUARE):
        pass
    assert refused.value.extra == {
        "limit": SQUARE.memory - 1, "actual": SQUARE.memory, "paint_size": 99, "scale_to": 99,
    }  # fmt: skip
    with budget.room(Work(100, 100, "aonet", 99)):
        pass


def test_a_picture_that_nothing_helps():
    with pytest.raises(TooLarge, match="send a smaller one") as refused, Budget(1000).room(SQUARE):
        pass
    assert refused.value.extra.keys() == {"limit", "actual"}


def test_more_than_a_network_is_shown():
    with (
        pytest.raises(
            TooLarge, match="would see 100x100 pixels, and the limit is 9,000: ask for paint_size=94"
        ) as refused,
        Budget(10**12, painted=9000).room(SQUARE),
    ):
        pass
    assert refused.value.extra == {"limit": 9000, "actual": 10_000, "paint_size": 94, "scale_to": 94}


def test_several_networks_take_as_long_as_all_of_them():
    budget = Budget(10**12, seconds=10)
    budget.learn("aonet", 1_000_000, 4)
    with budget.room(Work(1000, 1000, "aonet", models=2)):
        pass
    with pytest.raises(TooLarge, match="would take 12 s"), budget.room(Work(1000, 1000, "aonet", models=3)):
        pass


def test_seconds_are_learnt_and_foreseen():
    budget = Budget(10**12, seconds=10)
    large = Work(3000, 3000, "aonet")
    assert budget.expected(large) == 0
    budget.learn("aonet", 100, 50)  # too small to say anything
    assert budget.expected(large) == 0
    budget.learn("aonet", 1_000_000, 2)
    assert budget.expected(large) == pytest.approx(18)
    assert budget.expected(Work(3000, 3000, "vgg16")) == pytest.approx(18 * ARCHES["vgg16"].pace)
    with pytest.raises(TooLarge, match="would take 18 s, and the limit is 10 s") as refused, budget.room(large):
        pass
    assert refused.value.extra == {"limit": 10, "actual": 18, "paint_size": 2236, "scale_to": 2236}  # 5 million pixels
    budget.learn("aonet", 1_000_000, 1)
    assert budget.expected(large) == pytest.approx(13.5)
    budget.learn("vgg16", 1_000_000, 150)  # by one that was slowed down less than by one that was not
    assert budget.expected(large) < 75


@pytest.mark.parametrize(
    ("files", "limit"),
    [
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": "1000000\n"}, 1_000_000),
        (
            {
                "proc/self/cgroup": "0::/a/b\n",
                "sys/fs/cgroup/a/memory.max": "7\n",
                "sys/fs/cgroup/a/b/memory.max": "max",
            },
            7,
        ),
        (
            {
                "proc/self/cgroup": "5:cpu,cpuacct:/x\n4:memory:/docker/1\n0::/\n",
                "sys/fs/cgroup/memory/memory.limit_in_bytes": "9000",
                "sys/fs/cgroup/cpu/memory.limit_in_bytes": "1",
            },
            9000,
        ),
        ({"proc/self/cgroup": "0::/\n"}, None),
        ({}, None),
    ],
)
def test_the_memory_of_a_container(tmp_path: Path, files: dict[str, str], limit: int | None):
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    whole = memory_limit(tmp_path / "nothing")
    assert memory_limit(tmp_path) == (limit or whole)
    assert whole > 100e6


def test_the_service_refuses_before_it_decodes_and_takes_what_it_has_named(settings: Settings):
    photograph = saved(np.zeros((300, 400, 3), np.uint8), "JPEG")
    budget = 120_000 * PICTURE + 30_000 * ARCHES["aonet"].memory
    memory = budget * 4 // 3  # one client may take three quarters
    with service_here(settings.model_copy(update={"memory": memory})) as client:
        body = problem(stylize(client, photograph), 413)
        assert (body["error"], body["limit"], body["paint_size"]) == ("too_large", budget, 200)
        assert stylize(client, photograph, f"style=plain&paint_size={body['paint_size']}").status_code == 200
        assert problem(stylize(client, photograph, "style=plain&paint_size=201"), 413)
        small = saved(np.zeros((300 * body["scale_to"] // 400, body["scale_to"], 3), np.uint8), "JPEG")
        assert stylize(client, small).status_code == 200
        assert stylize(client, photograph, "style=plain&strength=0").status_code == 200
        compared = client.post("/compare?style=plain", files={"image": ("a.jpg", photograph)})
        assert 64 <= problem(compared, 413)["paint_size"] < 768


def test_a_service_that_is_full_says_when_and_what(settings: Settings):
    photograph = saved(np.zeros((300, 400, 3), np.uint8), "JPEG")
    with service_here(settings.model_copy(update={"memory": 2 * Work(300, 400, "aonet").memory})) as client:
        with client.app.state.studio.budget.room(Work(300, 600, "aonet")):
            response = stylize(client, photograph)
            body = problem(response, 503)
            assert int(response.headers["retry-after"]) >= 1
            assert stylize(client, photograph, f"style=plain&paint_size={body['paint_size']}").status_code == 200
        assert stylize(client, photograph).status_code == 200
