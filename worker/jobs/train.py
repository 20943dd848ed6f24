"""A training job, inside its child process: Algorithm 2 from files to a checkpoint."""

import time

from impasto.core.datasets import find_dataset
from impasto.core.jobs.record import Progress
from impasto.core.losses.gram_files import StyleTargets, load_targets, style_targets
from impasto.core.losses.networks import load_loss_networks
from impasto.core.losses.style_image import read_style_image
from impasto.core.nets.checkpoints import Zoo, save
from impasto.core.nets.vgg import VGG16
from impasto.core.params import TrainJobParams
from impasto.worker.jobs.device import free_device
from impasto.worker.jobs.protocol import PLOT_EVERY, Desk, Message
from impasto.worker.training import train as training
from impasto.worker.training.losses_csv import Step
from impasto.worker.training.photographs import open_dataset
from impasto.worker.training.plots import plot_losses


def train(desk: Desk) -> Message:
    """Train, and tell of it. A training that is canceled leaves no network."""
    params = TrainJobParams(**desk.job.params)
    if sent := desk.inputs("content_images"):
        photographs = open_dataset(sent[0], desk.folder / "photographs")  # which goes with the folder
    else:
        source = find_dataset(desk.settings.datasets, params.dataset)
        photographs = open_dataset(source, desk.settings.cache_folder / "datasets")
    with free_device(desk.settings) as device:
        networks = load_loss_networks(desk.settings.vgg16)
        trained = training.train(
            params.training(),
            photographs,
            _style(desk, params, networks.vgg),
            networks,
            desk.folder,
            warm=Zoo(desk.settings.models, desk.settings.styles).warm_start(params),
            device=device,
            should_stop=desk.told_to_end,
            on_step=_Reporter(desk).show,
        )
    if trained is None:
        return Message(
            ending="canceled" if desk.order == "cancel" else "stopped",
            files={"state": "state.pt", "losses": "losses.csv"},
        )
    save(desk.folder / "result.safetensors", *trained)
    plot_losses(desk.folder, desk.folder / "losses.png", str(desk.job.publishes))
    return Message(
        ending="succeeded", files={"result": "result.safetensors", "losses": "losses.csv", "plot": "losses.png"}
    )


def _style(desk: Desk, params: TrainJobParams, vgg: VGG16) -> StyleTargets:
    if params.named_style is not None:
        folder = desk.settings.models / "styles"
        return load_targets(folder, params.named_style, params.style_size, params.scales, params.style_layers, vgg)
    (path,) = desk.inputs("style_image")
    return style_targets(read_style_image(path), params.style_size, params.scales, params.style_layers, vgg)


class _Reporter:
    """Steps to news: losses always, the state and previews when training has just written them."""

    def __init__(self, desk: Desk) -> None:
        self.desk = desk
        self._pending: dict[str, str] = {}
        self._begun, self._first = time.monotonic(), 0

    def show(self, step: Step) -> None:
        files, self._pending = self._pending, {}
        if step.number % training.SAVE_EVERY == 0:  # written after this call, so told with the next
            self._pending |= {"state": "state.pt", "losses": "losses.csv"}
        if step.number % training.PREVIEW_EVERY == 0:
            self._pending["preview"] = f"preview-{step.number:06d}.png"
        if self.desk.due("plot", PLOT_EVERY):
            plot_losses(self.desk.folder, self.desk.folder / "losses.png", str(self.desk.job.publishes))
            files["plot"] = "losses.png"
        self._first = self._first or step.number
        seconds = (time.monotonic() - self._begun) / (step.number - self._first + 1)
        left = (step.total - step.number) * seconds
        progress = Progress(step=step.number, total=step.total, losses=step.losses, eta_s=left)
        self.desk.tell(Message(progress=progress, files=files))
