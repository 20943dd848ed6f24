"""The predicted cost of jobs: what must be accepted, and what the refusal says."""

import pytest

from impasto.core.errors import TooLarge
from impasto.core.jobs.cost import EPOCH, Bounds, check_painting, check_training
from impasto.core.params import GatysParams
from impasto.core.recipes import recipe, twenty
from impasto.core.settings import Settings

SECONDS = Settings.model_fields["max_job_seconds"].default
SMALL, LARGE = (Bounds(int(0.7 * memory), SECONDS) for memory in (8e9, 24e9))
"""Of machines with 8 and 24 GB, unless told."""


@pytest.mark.parametrize("kind", ["ours", "report"])
def test_the_trainings_of_the_recipes_are_accepted_on_8_gb(kind):
    trainings = twenty(kind)
    assert len(trainings) == 20
    for params in trainings:
        check_training(params, None, EPOCH, SMALL)
        check_training(params, (2000, 3000), EPOCH, SMALL)


def test_large_paintings_are_accepted():
    check_painting(GatysParams(style="wave"), (4000, 6000), [], SMALL)
    check_painting(GatysParams(style="wave", size=1024), (4000, 6000), [(4000, 6000)] * 8, SMALL)
    check_painting(GatysParams(style="wave", size=2048), (4000, 6000), [], LARGE)
    check_painting(GatysParams(recipe="report", style_scale=2, size=2048), (4000, 6000), [(4000, 6000)], LARGE)


def test_a_refusal_lowers_only_what_must_be():
    def refused(**changes) -> dict:
        with pytest.raises(TooLarge) as caught:
            check_training(recipe("aonet", "custom", "mine", **changes), (500, 500), 2000, SMALL)
        extra = caught.value.extra
        assert extra["actual"] > extra["limit"]
        return {name: value for name, value in extra.items() if name not in ("actual", "limit")}

    assert set(refused(batch=256)) == {"batch"}
    assert set(refused(size=1024, batch=1)) == {"size"}
    assert set(refused(steps=1_000_000)) == {"steps"}
    assert set(refused(size=1024, batch=256, steps=1_000_000)) == {"batch", "size", "steps"}


def test_where_nothing_would_do_the_pictures_are_too_large():
    with pytest.raises(TooLarge, match="smaller pictures") as caught:
        check_painting(GatysParams(style="wave"), (4000, 6000), [], Bounds(1_000_000, SECONDS))
    assert set(caught.value.extra) == {"limit", "actual"}
