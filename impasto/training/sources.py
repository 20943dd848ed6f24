"""Find the photographs and the style that networks are trained with, and measured on."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import click

from impasto.core.datasets import find_dataset
from impasto.core.losses.gram_files import StyleTargets, load_targets, save_targets, style_targets
from impasto.core.losses.style_image import read_style_image
from impasto.core.names import check_name
from impasto.core.nets.vgg import VGG16, load_vgg16
from impasto.core.params import SCALES, STYLE_LAYERS, STYLE_SIZE, TrainParams
from impasto.core.settings import Settings
from impasto.worker.training.photographs import open_dataset


@dataclass(frozen=True)
class Sources:
    """Photographs, in folders or archives, and a style's picture. Without them, both are found by name."""

    settings: Settings
    data: tuple[Path, ...] = ()
    style_image: Path | None = None

    def photographs(self, dataset: str) -> list[Path]:
        sources = self.data or [find_dataset(self.settings.datasets, dataset)]
        cache = self.settings.cache_folder / "datasets"
        return [path for source in sources for path in open_dataset(source, cache, click.echo)]

    def style(self, params: TrainParams, vgg: VGG16) -> StyleTargets:
        return self._found(params.style, params.style_size, params.scales, params.style_layers, vgg)

    def judged_style(self, style: str, scales: int, vgg: VGG16) -> StyleTargets:
        """The targets that all paintings are measured with: those of our objective."""
        return self._found(style, STYLE_SIZE, scales, STYLE_LAYERS, vgg)

    def _found(self, style: str, size: int, scales: int, layers: Iterable[str], vgg: VGG16) -> StyleTargets:
        if self.style_image is None:
            return load_targets(self.settings.models / "styles", style, size, scales, layers, vgg)
        return style_targets(read_style_image(self.style_image), size, scales, layers, vgg)


def write_gram_file(name: str, image: Path, out: Path | None, settings: Settings) -> None:
    """Write the Gram file of a style image to the folder of models, at the default size, for the loss network in
    use."""
    check_name(name, "style")
    vgg = load_vgg16(settings.vgg16)
    path = (out or settings.models) / "styles" / f"{name}.safetensors"
    save_targets(path, style_targets(read_style_image(image), STYLE_SIZE, SCALES, STYLE_LAYERS, vgg), vgg)
    click.echo(str(path))
