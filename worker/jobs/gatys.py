"""A pixel job, inside its child process: Algorithm 1 from files to files."""

import time

from impasto.core.files import stamp, write_bytes
from impasto.core.gatys import optimise as gatys
from impasto.core.gatys import style as gatys_style
from impasto.core.jobs.record import Progress
from impasto.core.losses.networks import load_loss_networks
from impasto.core.losses.style_image import read_style_image
from impasto.core.params import GatysParams
from impasto.core.pictures.codec import Picture, encode, read_picture, resize
from impasto.worker.jobs.device import free_device
from impasto.worker.jobs.protocol import PLOT_EVERY, PREVIEW_EVERY, Context, Message
from impasto.worker.training.losses_csv import Step, log_step, start_log
from impasto.worker.training.plots import plot_losses


def paint(context: Context) -> Message:
    """Paint, and report each step. A job that is canceled gives its best painting so far."""
    params = GatysParams(**context.job.params)
    (photograph,) = context.inputs("image")
    with free_device(context.settings) as device:
        networks = load_loss_networks(context.settings.vgg16)
        images = [read_style_image(path) for path in context.inputs("style_image")]
        style = gatys_style.find_style(params, images, context.settings.models / "styles", networks.vgg)
        reporter = _Reporter(context, params)
        painting = gatys.paint_pixels(
            read_picture(photograph),
            style,
            params,
            networks,
            device=device,
            on_step=reporter.show,
            should_stop=context.told_to_end,
            state=reporter.state,
            save_every=context.settings.save_every,
        )
    if context.order == "stop":
        return Message(ending="stopped", files=reporter.state_files())
    if context.job.size:  # the photograph was stored at the size that is optimised
        painting = Picture(resize(painting.rgb, *context.job.size))
    write_bytes(context.folder / "result.png", encode(painting, "png"))
    plot_losses(context.folder, context.folder / "losses.png", reporter.title)
    files = {"result": "result.png", "losses": "losses.csv", "plot": "losses.png"}
    return Message(ending="canceled" if context.order == "cancel" else "succeeded", files=files)


class _Reporter:
    """Turns steps into messages: the losses, a preview now and then, the state whenever it was saved."""

    def __init__(self, context: Context, params: GatysParams) -> None:
        self.context, self.params = context, params
        self.state = context.folder / "state.pt"
        self._saved = self._stamp()
        self.title = f"{params.style or 'own style'}, {params.optimizer}"
        self._started, self._last = False, time.monotonic()

    def show(self, step: gatys.Step) -> None:
        if not self._started:
            start_log(self.context.folder, step.number - 1, [name for name in step.losses if name != "total"])
            self._started = True
        seconds, self._last = time.monotonic() - self._last, time.monotonic()
        lr = self.params.lr if self.params.optimizer == "adam" else 1.0
        row = Step(step.number, step.total, step.losses, lr, seconds)
        log_step(self.context.folder, row, main=True)
        files = {}
        if self._stamp() != self._saved:
            self._saved = self._stamp()
            files = self.state_files()
        if self.context.due("preview", PREVIEW_EVERY):
            write_bytes(self.context.folder / "preview.png", encode(step.picture(), "png"))
            files |= {"preview": "preview.png", "losses": "losses.csv"}
        if self.context.due("plot", PLOT_EVERY):
            plot_losses(self.context.folder, self.context.folder / "losses.png", self.title)
            files["plot"] = "losses.png"
        progress = Progress(step=step.number, total=step.total, losses=step.losses, eta_s=step.seconds_left)
        self.context.tell(Message(progress=progress, files=files))

    def state_files(self) -> dict[str, str]:
        return {"state": self.state.name, "losses": "losses.csv"} if self.state.exists() else {}

    def _stamp(self) -> tuple[int, int] | None:
        return stamp(self.state) if self.state.exists() else None
