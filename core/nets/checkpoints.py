"""A trained network on disk, and the zoo: all of them.

A network is one safetensors file, `<folder>/<arch>/<dataset>/<style>.safetensors`. VGG16Net's frozen encoder is a file
of its own, checked by hash. The card is JSON in the header, so that listing models reads no weights and imports no
torch. Weights are float16, or 8 bits (`core.nets.packing`).
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, ValidationError
from safetensors import SafetensorError, safe_open

from impasto.core.errors import BadCheckpoint, BadParameter, NotFound
from impasto.core.files import FileCache, replacing
from impasto.core.names import ARCHES, check_name, is_name, unknown
from impasto.core.params import TrainParams

if TYPE_CHECKING:
    from torch import Tensor

    from impasto.core.nets.painters import Net

log = logging.getLogger("impasto")

SUFFIX = ".safetensors"

NO_MODELS = (
    "The installed package has none: clone the repository and set IMPASTO_MODELS to its folder models/, or train one "
    "(impasto train)."
)


class Card(BaseModel):
    """The description of a checkpoint, in its file. `read_card` leaves out fields that are not known here."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    params: TrainParams
    style_sha256: str
    """Hash of the style image's file."""
    images: int
    """Photographs that it was trained on."""
    folders: dict[str, int] = {}
    """Their number by folder."""
    loss_network: str
    """`bundled`, `imagenet` or the name of a file."""
    loss_network_sha256: str
    encoder_sha256: str | None = None
    """Hash of VGG16Net's frozen part."""
    warm_start_sha256: str | None = None
    """Hash of the checkpoint that `params.warm_start` names."""
    first_losses: dict[str, float]
    last_losses: dict[str, float]
    """Means over the first and last steps of the main stage."""
    machine: str | None = None
    """The machine it was trained on."""
    created: AwareDatetime
    bits: Literal[8, 16] = 16

    @property
    def stride(self) -> int:
        return ARCHES[self.params.arch].stride


def save(path: Path, net: Net, card: Card) -> None:
    """Write `net`'s own weights, in `card.bits`, and the card: all of it or nothing."""
    from safetensors.torch import save_file

    from impasto.core.nets.packing import pack

    tensors = own_weights(net)
    tensors = pack(tensors) if card.bits == 8 else {k: v.half() for k, v in tensors.items()}
    with replacing(path) as temporary:
        save_file({k: v.contiguous() for k, v in tensors.items()}, temporary, {"card": card.model_dump_json()})


def read_card(path: Path) -> Card:
    """Read the card, from the header alone. Warns once of fields that this version does not know, and ignores them.

    Raises BadCheckpoint where there is no card, or a field that this version needs is missing or wrong.
    """
    try:
        with safe_open(path, "numpy") as file:
            metadata = file.metadata() or {}
        fields = json.loads(metadata["card"])
        if "output_lr" in fields["params"]:  # its network speaks in levels, and not in units of 64 of them
            raise BadCheckpoint(
                f"{path} was trained by an old version and would paint wrong. Train it again, or delete it."
            )
        ignored = _take_unknown(fields, Card) + _take_unknown(fields["params"], TrainParams, "params.")
        card = Card.model_validate(fields)
    except ValidationError as error:
        names = ", ".join(".".join(map(str, each["loc"])) for each in error.errors())
        raise BadCheckpoint(
            f"{path} has a card of another version: {names} cannot be read. Train it again, or delete it."
        ) from error
    except (OSError, SafetensorError, KeyError, ValueError, AttributeError) as error:
        raise BadCheckpoint(f"{path} is not a checkpoint of ours: {error}") from error
    if ignored:
        _warn_once(path, ", ".join(ignored))
    return card


def _take_unknown(fields: dict[str, Any], model: type[BaseModel], prefix: str = "") -> list[str]:
    """Remove the fields that `model` does not have, and name them; not those that are null, false, 0 or empty."""
    taken = {name: fields.pop(name) for name in sorted(fields.keys() - model.model_fields.keys())}
    return [f"{prefix}{name}={value!r}" for name, value in taken.items() if value]


@cache
def _warn_once(path: Path, fields: str) -> None:
    log.warning("The card of %s has fields that this version does not know, and ignores: %s.", path, fields)


def load(path: Path, vgg16: str = "bundled") -> Net:
    """Load a network on the CPU, in float32, ready for inference.

    `vgg16` is the source of a VGG16Net's encoder where its card names a file of another machine. Raises BadCheckpoint,
    also where that encoder is not the one that the network was trained with.
    """
    from safetensors.torch import load_file

    from impasto.core.nets.packing import unpack
    from impasto.core.nets.painters import build
    from impasto.core.nets.vgg import load_encoder

    card = read_card(path)
    encoder = None
    if card.params.arch == "vgg16":
        encoder = load_encoder(card.loss_network if card.loss_network in ("bundled", "imagenet") else vgg16)
        if encoder.sha256 != card.encoder_sha256:
            raise BadCheckpoint(
                f"{path} was trained with another encoder ({str(card.encoder_sha256)[:12]}…) than the one here "
                f"({encoder.sha256[:12]}…, {encoder.source}). Set IMPASTO_VGG16 to that encoder, or train it again."
            )
    net = build(card.params.arch, encoder, card.params.upsample)
    try:
        missing, unexpected = net.load_state_dict(unpack(load_file(path)), strict=False)
    except (SafetensorError, OSError, RuntimeError) as error:
        raise BadCheckpoint(f"{path} does not fit its network: {error}") from error
    if unexpected or any(not name.startswith(net.frozen) for name in missing):
        raise BadCheckpoint(f"{path} does not fit its network: its weights have other names.")
    return net.requires_grad_(False).eval()


def own_weights(net: Net) -> dict[str, Tensor]:
    """The weights that training changes, without the frozen part."""
    return {name: value for name, value in net.state_dict().items() if not name.startswith(net.frozen)}


@dataclass(frozen=True)
class Entry:
    """A checkpoint of the zoo: its path and its card."""

    path: Path
    card: Card


class Zoo:
    """The checkpoints in some folders, by name. One in a later folder hides one of the same name in an earlier folder.

    Each look-up sees files that have come or gone. A name is compared with the files and never becomes a path.
    """

    def __init__(self, *folders: Path) -> None:
        self.folders = folders
        self._cards = FileCache(_card_of)

    def entries(self) -> dict[tuple[str, str, str], Entry]:
        """Every (arch, dataset, style) there is. A file that cannot be read is passed over, with a warning."""
        found = {}
        for folder in self.folders:
            for path in sorted(folder.glob(f"*/*/*{SUFFIX}")):
                if not path.name.startswith(".") and (card := self._card(path)):  # with a dot: one being written
                    found[_names(path)] = Entry(path, card)
        return found

    def find(self, arch: str, dataset: str, style: str) -> Entry:
        """One model. Raises NotFound, with the known names and the nearest."""
        return self.named(f"{arch}/{dataset}/{style}")

    def named(self, name: str) -> Entry:
        """The model of a whole name, ARCH/DATASET/STYLE. Raises as `find`."""
        models = {"/".join(names): entry for names, entry in self.entries().items()}
        if name not in models:
            raise self._unknown(name, models)
        return models[name]

    def warm_start(self, params: TrainParams) -> Path | None:
        """The checkpoint that a training starts from, if it names one.

        Raises as `find`, and BadParameter where the other network upsamples in another way.
        """
        if params.warm_start is None:
            return None
        entry = self.named(params.warm_start)
        if entry.card.params.upsample != params.upsample:
            raise BadParameter(
                f"{params.warm_start} was trained with upsample={entry.card.params.upsample}, and its weights do not "
                f"fit upsample={params.upsample}. Choose the same."
            )
        return entry.path

    def select(
        self, arch: str | None = None, dataset: str | None = None, style: str | None = None
    ) -> dict[tuple[str, str, str], Entry]:
        """All models of these names; None is any. Raises as `find`."""
        wanted, entries = (arch, dataset, style), self.entries()
        found = {
            key: entry
            for key, entry in entries.items()
            if all(name in (None, part) for name, part in zip(wanted, key, strict=True))
        }
        if not found:
            raise self._unknown("/".join(name or "*" for name in wanted), ("/".join(key) for key in entries))
        return found

    def _unknown(self, name: str, models: Iterable[str]) -> NotFound:
        if models := list(models):
            return unknown("model", name, models)
        places = " or ".join(map(str, self.folders))
        return NotFound(f"There are no models in {places}. {NO_MODELS}", known=[], nearest=None)

    def _card(self, path: Path) -> Card | None:
        """The card; None for a file that is gone, or that is not a checkpoint of ours."""
        try:
            return self._cards(path)
        except FileNotFoundError:
            return None


def _names(path: Path) -> tuple[str, str, str]:
    """Network, dataset and style, by the path of a checkpoint."""
    return path.parts[-3], path.parts[-2], path.stem


def _card_of(path: Path) -> Card | None:
    arch, dataset, style = _names(path)
    if arch not in ARCHES or not is_name(dataset) or not is_name(style):
        log.warning(
            "A model is passed over: %s is not named ARCH/DATASET/STYLE%s, with %s as ARCH and the others of a-z, 0-9, "
            "_ and -.",
            path,
            SUFFIX,
            " or ".join(ARCHES),
        )
        return None
    try:
        return read_card(path)
    except BadCheckpoint as error:
        log.warning("A model is passed over: %s", error)
        return None


def place(folder: Path, params: TrainParams) -> Path:
    """The path of the checkpoint of `params` in a zoo's folder. Raises BadParameter for names that are not allowed."""
    check_name(params.dataset, "dataset")
    check_name(params.style, "style")
    return folder.joinpath(params.arch, params.dataset, params.style).with_suffix(SUFFIX)
