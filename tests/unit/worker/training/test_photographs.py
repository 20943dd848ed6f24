import shutil
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from impasto.core.errors import BadParameter, BadPicture, NotFound
from impasto.worker.training.photographs import EVEN, HELD_OUT, Batches, is_held_out, open_dataset
from tests.conftest import SHARED


def save(path: Path, rgb: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(rgb).save(path)
    return path


def noise(seed: int, height: int = 80, width: int = 100) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.fixture
def photographs(tmp_path: Path) -> list[Path]:
    """Each of one colour, 10 * its number: what a batch is made of can be read off it."""
    return [save(tmp_path / f"{k}.png", np.full((80, 100, 3), 10 * k, np.uint8)) for k in range(5)]


def test_a_folder_is_searched_through(tmp_path):
    save(tmp_path / "b/two.png", noise(0))
    save(tmp_path / "one.JPG", noise(1))
    (tmp_path / "notes.txt").write_text("no picture")
    save(tmp_path / ".hidden.png", noise(2))
    assert [p.name for p in open_dataset(tmp_path, tmp_path)] == ["two.png", "one.JPG"]


@pytest.mark.parametrize("suffix", ["zip", "tar.gz"])
def test_an_archive_is_unpacked_once(tmp_path, suffix):
    folder = tmp_path / "val2014"
    save(folder / "COCO_val2014_000000000042.jpg", noise(0))
    save(folder / "COCO_val2014_000000000139.jpg", noise(1))  # set aside
    archive = Path(
        shutil.make_archive(str(tmp_path / "val2014"), "zip" if suffix == "zip" else "gztar", tmp_path, "val2014")
    )
    said: list[str] = []
    first = open_dataset(archive, tmp_path / "cache", said.append)
    assert [p.name for p in first] == ["COCO_val2014_000000000042.jpg"]
    assert open_dataset(archive, tmp_path / "cache", said.append) == first
    assert len(said) == 1


def test_tinyimagenets_training_pictures_alone_are_taken(tmp_path):
    root = tmp_path / "tiny-imagenet-200"
    save(root / "train/n01/images/n01_0.JPEG", noise(0))
    save(root / "val/images/val_0.JPEG", noise(1))
    save(root / "test/images/test_0.JPEG", noise(2))
    (root / "wnids.txt").write_text("n01\n")
    for source in (tmp_path, root):
        assert [p.name for p in open_dataset(source, tmp_path)] == ["n01_0.JPEG"]


def test_the_twenty_set_aside():
    assert len(HELD_OUT) == 20
    assert is_held_out(Path("val2017/000000000139.jpg"))
    assert is_held_out(Path("COCO_val2014_000000001761.jpg"))
    assert not is_held_out(Path("000000000009.jpg"))
    assert not is_held_out(Path("139.jpg"))  # somebody's own


def test_they_are_the_first_of_val2017():
    folder = SHARED / "data/coco/val2017"
    if not folder.is_dir():
        pytest.skip("../shared/data is not here")
    assert {int(p.stem) for p in sorted(folder.iterdir())[:20]} == HELD_OUT
    assert len(open_dataset(SHARED / "data/coco", folder)) == 335


@pytest.mark.parametrize("content", [b"", b"no archive"])
def test_what_is_no_archive(tmp_path, content):
    for name in ("a.zip", "a.tar.gz", "a.rar"):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(BadParameter, match="cannot be unpacked"):
            open_dataset(tmp_path / name, tmp_path / "cache")
    assert not list((tmp_path / "cache").iterdir())


def test_an_archive_writes_nowhere_else(tmp_path):
    (tmp_path / "in").mkdir()
    source = save(tmp_path / "x.png", noise(0))
    with zipfile.ZipFile(tmp_path / "in/evil.zip", "w") as z:
        z.write(source, "../../escaped.png")
    with tarfile.open(tmp_path / "in/evil.tar.gz", "w:gz") as t:
        t.add(source, "../../escaped.png")
    for name in ("evil.zip", "evil.tar.gz"):
        with pytest.raises(BadParameter):
            open_dataset(tmp_path / "in" / name, tmp_path / "in/cache")
    assert not list(tmp_path.rglob("escaped.png"))


def test_nothing_there(tmp_path):
    with pytest.raises(NotFound, match="no folder or archive"):
        open_dataset(tmp_path / "none", tmp_path)
    with pytest.raises(BadParameter, match="no photographs"):
        open_dataset(tmp_path, tmp_path)


def test_an_epoch_has_every_photograph_once_and_each_has_its_own_order(photographs):
    batches = Batches(photographs, 64, seed=0, augment=False)
    values = batches(0, 64, 15)[:, 0, 0, 0].tolist()
    epochs = [values[0:5], values[5:10], values[10:15]]
    assert all(sorted(epoch) == [0, 10, 20, 30, 40] for epoch in epochs)
    assert epochs[0] != epochs[1] or epochs[1] != epochs[2]


def test_a_batch_depends_on_its_number_and_the_seed_alone(tmp_path):
    paths = [save(tmp_path / f"{k}.png", noise(k)) for k in range(4)]
    whole = Batches(paths, 64, seed=7, augment=True)(0, 64, 8)
    assert torch.equal(Batches(paths, 64, seed=7, augment=True)(4, 64, 4), whole[4:])
    assert not torch.equal(Batches(paths, 64, seed=8, augment=True)(0, 64, 8), whole)


def test_the_reports_preparation_is_resize_and_centre_crop(tmp_path):
    rgb = np.zeros((64, 128, 3), np.uint8)
    rgb[:, 32:96] = (250, 100, 0)  # the middle square
    batch = Batches([save(tmp_path / "a.png", rgb)], 64, seed=0, augment=False)(0, 64, 1)
    assert batch.shape == (1, 3, 64, 64)
    assert batch.dtype == torch.float32
    assert (batch[0, :, 8:-8, 8:-8].mean((1, 2)) - torch.tensor([250.0, 100, 0])).abs().max() < 1  # 0..255


def test_even_crops_are_drawn_again(tmp_path):
    rgb = np.full((100, 400, 3), 200, np.uint8)
    rgb[:, 200:] = noise(0, 100, 200)  # half is plain
    batch = Batches([save(tmp_path / "a.png", rgb)], 64, seed=0, augment=True)(0, 64, 40)
    even = [float(p.std()) < EVEN for p in batch]
    assert sum(even) <= 4  # each of five draws would have to miss


def test_grey_and_palette_photographs_are_coloured(tmp_path):
    Image.fromarray(noise(0)[..., 0]).save(tmp_path / "grey.png")
    Image.fromarray(noise(0)).quantize(16).save(tmp_path / "palette.png")
    assert Batches(sorted(tmp_path.glob("*.png")), 64, 0, False)(0, 64, 2).shape == (2, 3, 64, 64)


def test_a_photograph_that_cannot_be_read_leaves_its_place_to_the_next(photographs, caplog):
    photographs[2].write_bytes(b"\x89PNG no picture")
    values = Batches(photographs, 64, seed=0, augment=False)(0, 64, 5)[:, 0, 0, 0].tolist()
    assert sorted(values) == [0, 10, 30, 30, 40]
    assert "2.png is passed over" in caplog.text


def test_no_photograph_that_can_be_read(tmp_path):
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8\xff no picture")
    with pytest.raises(BadPicture, match="None of the 1 photographs"):
        Batches([tmp_path / "broken.jpg"], 64, 0, False)(0, 64, 1)
