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
from impasto.worker.jobs.protocol import PLOT_EVERY, Context, Message
from impasto.worker.training import train as training
from impasto.worker.training.losses_csv import Step
from impasto.worker.training.photographs import open_dataset
from impasto.worker.training.plots import plot_losses


def train(context: Context) -> Message:
    """Train, and report each step. A training that is canceled gives no network."""
    params = TrainJobParams(**context.job.params)
    if sent := context.inputs("content_images"):
        photographs = open_dataset(sent[0], context.folder / "photographs")  # erased with the folder
    else:
        source = find_dataset(context.settings.datasets, params.dataset)
        photographs = open_dataset(source, context.settings.cache_folder / "datasets")
    with free_device(context.settings) as device:
        networks = load_loss_networks(context.settings.vgg16)
        trained = training.train(
            params.training(),
            photographs,
            _style(context, params, networks.vgg),
            networks,
            context.folder,
            warm=Zoo(context.settings.models, context.settings.styles).warm_start(params),
            device=device,
            should_stop=context.told_to_end,
            on_step=_Reporter(context).show,
        )
    if trained is None:
        return Message(
            ending="canceled" if context.order == "cancel" else "stopped",
            files={"state": "state.pt", "losses": "losses.csv"},
        )
    save(context.folder / "result.safetensors", *trained)
    plot_losses(context.folder, context.folder / "losses.png", str(context.job.publishes))
    return Message(
        ending="succeeded", files={"result": "result.safetensors", "losses": "losses.csv", "plot": "losses.png"}
    )


def _style(context: Context, params: TrainJobParams, vgg: VGG16) -> StyleTargets:
    if params.named_style is not None:
        folder = context.settings.models / "styles"
        return load_targets(folder, params.named_style, params.style_size, params.scales, params.style_layers, vgg)
    (path,) = context.inputs("style_image")
    return style_targets(read_style_image(path), params.style_size, params.scales, params.style_layers, vgg)


class _Reporter:
    """Turns steps into messages: the losses, and the state and previews after training has written them."""

    def __init__(self, context: Context) -> None:
        self.context = context
        self._pending: dict[str, str] = {}
        self._begun, self._first = time.monotonic(), 0

    def show(self, step: Step) -> None:
        files, self._pending = self._pending, {}
        if step.number % training.SAVE_EVERY == 0:  # training writes it after this call: reported with the next
            self._pending |= {"state": "state.pt", "losses": "losses.csv"}
        if step.number % training.PREVIEW_EVERY == 0:
            self._pending["preview"] = f"preview-{step.number:06d}.png"
        if self.context.due("plot", PLOT_EVERY):
            plot_losses(self.context.folder, self.context.folder / "losses.png", str(self.context.job.publishes))
            files["plot"] = "losses.png"
        self._first = self._first or step.number
        seconds = (time.monotonic() - self._begun) / (step.number - self._first + 1)
        left = (step.total - step.number) * seconds
        progress = Progress(step=step.number, total=step.total, losses=step.losses, eta_s=left)
        self.context.tell(Message(progress=progress, files=files))
