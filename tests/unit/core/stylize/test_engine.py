import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch

from impasto.core.device import cpu_precision, has_openvino
from impasto.core.errors import BadCheckpoint, BadParameter, NotFound, Unavailable
from impasto.core.nets.checkpoints import Zoo, load, read_card, save
from impasto.core.nets.painters import build
from impasto.core.pictures.codec import read_picture
from impasto.core.settings import ROOT
from impasto.core.stylize import engine as module
from impasto.core.stylize.engine import Engine

ARCHS = ["aonet", "vgg16"]
SIZES = [(16, 16), (37, 50), (64, 129)]


def by_torch(path: Path, rgb: np.ndarray) -> np.ndarray:
    """The painting of the unfolded network in float32."""
    picture = torch.from_numpy(rgb).permute(2, 0, 1)[None].float()
    with torch.inference_mode():
        painting = load(path)(picture)[0].permute(1, 2, 0)
    return painting.clamp(0, 255).numpy()


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    return float(10 * np.log10(255**2 / np.square(a.astype(float) - b).mean()))


@pytest.fixture(scope="module")
def engine(cache: Path) -> Engine:
    return Engine(cache, device="cpu")


@pytest.fixture
def exact(cache: Path, monkeypatch: pytest.MonkeyPatch) -> Engine:
    """One that computes in float32, on a processor too that is faster in bfloat16."""
    monkeypatch.setattr(module, "cpu_precision", lambda: "f32")
    return Engine(cache, device="cpu")


@pytest.mark.parametrize("arch", ARCHS)
@pytest.mark.parametrize("size", SIZES)
def test_it_paints_what_the_network_paints(exact, models, arch, size):
    path = models / arch / "coco/plain.safetensors"
    rgb = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    painting = exact.painter(path)(rgb)
    assert painting.shape == rgb.shape
    assert painting.dtype == np.uint8
    assert np.abs(painting - by_torch(path, rgb)).max() <= 0.6  # rounding, and a little


def test_bfloat16_paints_what_the_network_paints(engine, models):
    if cpu_precision() != "bf16":
        pytest.skip("this processor has no bfloat16")
    for arch in ARCHS:
        path = models / arch / "coco/plain.safetensors"
        for size in SIZES[1:]:  # of 16 px VGG16Net's norms have four values each, and amplify what is rounded off
            rgb = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
            assert psnr(engine.painter(path)(rgb), by_torch(path, rgb)) > 30  # untrained networks amplify noise


def test_torch_paints_the_same_where_openvino_is_missing(cache, models, photo, monkeypatch):
    monkeypatch.setattr(module, "has_openvino", lambda: False)
    path = models / "aonet/coco/plain.safetensors"
    painting = Engine(cache, device="cpu").painter(path)(photo)
    assert np.abs(painting - by_torch(path, photo)).max() <= 0.6


TRAINED = [entry.path for entry in Zoo(ROOT / "models").entries().values()]
CAT = read_picture(ROOT / "docs/cat.jpg").rgb[:128, 100:300]


@cache
def cat_by_torch(path: Path) -> np.ndarray:
    return by_torch(path, CAT)


def name_of(path: Path) -> str:
    return "-".join(path.with_suffix("").parts[-3:])


@pytest.mark.parametrize("path", TRAINED, ids=name_of)
def test_bfloat16_of_the_trained_stays_within_45_db(engine, path):
    if not has_openvino() or cpu_precision() != "bf16":
        pytest.skip("this processor has no bfloat16")
    assert psnr(engine.painter(path)(CAT), cat_by_torch(path)) >= 45


@pytest.mark.parametrize("path", TRAINED, ids=name_of)
def test_float32_of_the_trained_is_the_networks_own(exact, path):
    assert psnr(exact.painter(path)(CAT), cat_by_torch(path)) >= 50


def test_many_threads_paint_many_sizes(engine, models):
    painter = engine.painter(models / "aonet/coco/plain.safetensors")
    pictures = [np.random.default_rng(k).integers(0, 256, (20 + k, 30 - k, 3), dtype=np.uint8) for k in range(8)]
    alone = [painter(picture) for picture in pictures]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(painter, pictures * 3))
    for expected, painting in zip(alone * 3, together, strict=True):
        np.testing.assert_array_equal(painting, expected)


def test_large_pictures_leave_no_working_memory_behind(models, cache, monkeypatch):
    painter = Engine(cache, device="cpu").painter(models / "aonet/coco/plain.safetensors")
    picture = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    alone = painter(picture)
    monkeypatch.setattr(module, "_LARGE", 0)
    with ThreadPoolExecutor(4) as pool:  # memory is given back while others paint
        for painting in pool.map(painter, [picture] * 12):
            np.testing.assert_array_equal(painting, alone)
    assert painter._idle == []


def test_a_damaged_cache_is_made_anew(models, tmp_path):
    path = models / "aonet/coco/plain.safetensors"
    picture = np.full((32, 32, 3), 90, np.uint8)
    painting = Engine(tmp_path, device="cpu").painter(path)(picture)
    (model,) = tmp_path.rglob("model.xml")
    model.write_text("")
    np.testing.assert_array_equal(Engine(tmp_path, device="cpu").painter(path)(picture), painting)


def test_a_gpu_that_is_not_there_is_said(cache):
    if torch.cuda.is_available():
        pytest.skip("there is one")
    with pytest.raises(Unavailable, match="no CUDA device"):
        Engine(cache, device="cuda")


def test_two_threads_make_a_painter_once(cache, models, monkeypatch):
    made = []
    engine = Engine(cache, device="cpu")
    make = engine._make
    monkeypatch.setattr(engine, "_make", lambda path: made.append(path) or make(path))
    with ThreadPoolExecutor(4) as pool:
        painters = set(pool.map(engine.painter, [models / "aonet/coco/plain.safetensors"] * 8))
    assert len(made) == len(painters) == 1


def test_several_networks_are_converted_at_the_same_time(models, photo, tmp_path):
    """As when a gallery is first looked at while the service gets its first model ready."""
    card = read_card(models / "aonet/coco/plain.safetensors")
    paths = [tmp_path / f"{number}.safetensors" for number in range(3)]
    for path in paths:
        save(path, build("aonet"), card)
    engine = Engine(tmp_path / "cache", device="cpu")
    with ThreadPoolExecutor(3) as threads:
        for painting in threads.map(lambda path: engine.painter(path)(photo), paths):
            assert painting.shape == photo.shape


def test_it_keeps_the_last_used(cache, models):
    engine = Engine(cache, device="cpu", loaded=1)
    a, b = (models / arch / "coco/plain.safetensors" for arch in ARCHS)
    first = engine.painter(a)
    assert engine.painter(a) is first
    engine.painter(b)
    assert engine.painter(a) is not first


def test_a_checkpoint_that_changed_is_loaded_anew(cache, models, tmp_path):
    engine = Engine(cache, device="cpu")
    path = tmp_path / "aonet/coco/plain.safetensors"
    path.parent.mkdir(parents=True)
    path.write_bytes((models / "aonet/coco/plain.safetensors").read_bytes())
    first = engine.painter(path)
    path.write_bytes((models / "vgg16/coco/plain.safetensors").read_bytes())
    assert engine.painter(path) is not first


@pytest.mark.parametrize("size", [(15, 40), (40, 1), (0, 40)])
def test_a_side_under_16_px_is_refused(engine, models, size):
    with pytest.raises(BadParameter, match="16 px"):
        engine.painter(models / "aonet/coco/plain.safetensors")(np.zeros((*size, 3), np.uint8))


def test_what_is_no_checkpoint_is_refused(engine, tmp_path):
    path = tmp_path / "bad.safetensors"
    path.write_bytes(b"bad")
    with pytest.raises(BadCheckpoint):
        engine.painter(path)


def test_a_checkpoint_that_is_gone(engine, tmp_path):
    with pytest.raises(NotFound, match="was deleted"):
        engine.painter(tmp_path / "gone.safetensors")


def test_a_second_start_needs_no_torch_and_telemetry_stays_off(engine, models, cache):
    path = models / "aonet/coco/plain.safetensors"
    engine.painter(path)
    code = (
        "import sys, pathlib, numpy; from impasto.core.stylize.engine import Engine; "
        f"painter = Engine(pathlib.Path({str(cache)!r})).painter(pathlib.Path({str(path)!r})); "
        "painter(numpy.zeros((32, 32, 3), 'uint8')); "
        "print('torch' in sys.modules, sys.modules.get('openvino_telemetry'))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.split() == ["False", "None"]


def test_a_form_that_came_with_the_models_is_only_read(models, photo, tmp_path, monkeypatch):
    path = models / "aonet/coco/plain.safetensors"
    came = tmp_path / "came"
    painting = Engine(came, device="cpu").painter(path)(photo)
    (folder,) = (came / "engine").iterdir()
    assert folder.stat().st_mode & 0o777 == 0o755  # root makes it in an image, and somebody else reads it
    monkeypatch.setattr(module, "convert", lambda *_: pytest.fail("converted again"))
    cache = tmp_path / "cache"
    np.testing.assert_array_equal(Engine(cache, converted=came, device="cpu").painter(path)(photo), painting)
    assert not cache.exists()


@pytest.mark.gpu
def test_cuda_paints_what_the_processor_paints(engine, models, cache, photo):
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    path = models / "aonet/coco/plain.safetensors"
    assert psnr(Engine(cache, device="cuda").painter(path)(photo), engine.painter(path)(photo)) > 30
