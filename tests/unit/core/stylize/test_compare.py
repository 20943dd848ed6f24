"""Sheets of several networks' paintings: where each picture lies, and whose it is."""

import numpy as np
import pytest

from impasto.core.errors import BadParameter, NotFound
from impasto.core.nets.checkpoints import Zoo
from impasto.core.paint_params import CompareParams, PaintParams
from impasto.core.pictures.codec import Picture, resize, shrink
from impasto.core.pictures.sheet import PAPER, Labelled, sheet
from impasto.core.stylize.compare import MOST, compare
from impasto.core.stylize.engine import Engine
from impasto.core.stylize.stylize import paint


def plain(value: int, alpha: int | None = None) -> Labelled:
    rgb = np.full((40, 60, 3), value, np.uint8)
    return Labelled(Picture(rgb, None if alpha is None else np.full((40, 60), alpha, np.uint8)), "a label")


def places(page: np.ndarray, picture: np.ndarray) -> list[tuple[int, int]]:
    """The place of `picture` on `page`, as (row, column) of its top left corner."""
    windows = np.lib.stride_tricks.sliding_window_view(page, picture.shape)[..., 0, :, :, :]
    return [tuple(map(int, place)) for place in np.argwhere((windows == picture).all((2, 3, 4)))]


def test_pictures_lie_in_rows_and_none_leaves_its_place_empty():
    page = sheet([[plain(0), plain(90)], [None, plain(180)]])
    (first,), (second,), (third,) = (places(page, plain(value).picture.rgb) for value in (0, 90, 180))
    assert first[0] == second[0] < third[0]
    assert first[1] < second[1] == third[1]
    assert (page[third[0] : third[0] + 40, : third[1]] == PAPER).all()


def test_a_label_is_written_below_its_picture_and_cut_short_where_it_is_too_long():
    page = sheet([[plain(0), Labelled(plain(0).picture, "a label far wider than sixty pixels")]])
    (left, right) = places(page, plain(0).picture.rgb)
    below = page[left[0] + 40 :]
    assert (below[:, left[1] : left[1] + 60] != PAPER).any()
    assert (below[:, right[1] + 60 :] == PAPER).all()


def test_what_is_transparent_shows_the_paper():
    assert (sheet([[Labelled(plain(0, alpha=0).picture, "")]]) == PAPER).all()


@pytest.fixture
def zoo(models):
    return Zoo(models)


@pytest.fixture
def engine(cache):
    return Engine(cache)


@pytest.fixture
def photograph(photo):
    """600 x 300 px."""
    return Picture(resize(photo, 300, 600))


def test_a_style_by_every_network(zoo, engine, photo):
    page = compare(zoo.select(style="plain"), engine.painter, Picture(photo), CompareParams(style="plain")).rgb
    paintings = [
        paint(engine.painter(entry.path), Picture(photo), PaintParams(style="plain", arch=arch)).rgb
        for (arch, _, _), entry in zoo.entries().items()
    ]
    assert len(paintings) == 2
    (original,), (aonet,), (vgg16,) = (places(page, picture) for picture in (photo, *paintings))
    assert original[0] == aonet[0] < vgg16[0]
    assert original[1] < aonet[1] == vgg16[1]


@pytest.mark.parametrize(
    ("asked", "aonet", "vgg16"),
    [({}, 384, 768), ({"side": 100}, 100, 200), ({"paint_size": 80}, 80, 80), ({"paint_size": 800}, 600, 800)],
)
def test_what_the_networks_see(zoo, photograph, asked, aonet, vgg16):
    seen = []

    def painter(path):
        return lambda rgb: seen.append(rgb.shape) or rgb

    compare(zoo.select(), painter, photograph, CompareParams(**asked))
    assert seen == [(aonet // 2, aonet, 3), (vgg16 // 2, vgg16, 3)]


def test_photograph_and_paintings_are_shrunk_to_the_side_asked_for(zoo, engine, photograph):
    page = compare(zoo.select(arch="aonet"), engine.painter, photograph, CompareParams(side=64, paint_size=96)).rgb
    entry = zoo.find("aonet", "coco", "plain")
    painting = paint(engine.painter(entry.path), shrink(photograph, 96), PaintParams(style="plain"))
    assert places(page, shrink(photograph, 64).rgb)
    assert places(page, shrink(painting, 64).rgb)


def test_models_are_selected_by_any_of_their_names(zoo):
    assert set(zoo.select()) == set(zoo.select(style="plain")) == set(zoo.entries())
    assert set(zoo.select(arch="vgg16", dataset="coco")) == {("vgg16", "coco", "plain")}
    with pytest.raises(NotFound, match=r"\*/\*/plaim.*Did you mean '(aonet|vgg16)/coco/plain"):
        zoo.select(style="plaim")
    with pytest.raises(NotFound, match=r"Did you mean 'aonet/coco/plain"):
        zoo.select(arch="aonet", dataset="coc")
    with pytest.raises(NotFound) as error:
        zoo.find("aonet", "coco", "starry_night")  # as every other model of AONet's on COCO begins
    assert error.value.extra["nearest"] is None


def test_too_many_models_for_a_sheet(zoo, engine, photo):
    entry = zoo.find("aonet", "coco", "plain")
    many = {("aonet", "coco", f"style{k}"): entry for k in range(MOST + 1)}
    with pytest.raises(BadParameter, match=f"{MOST + 1} models were chosen, and a sheet has {MOST} at most"):
        compare(many, engine.painter, Picture(photo), CompareParams())
