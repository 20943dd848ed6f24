"""A pixel job, inside its child process: Algorithm 1 from files to files."""

import time

from impasto.core.files import stamp, write_bytes
from impasto.core.gatys import optimise as gatys
from impasto.core.gatys import style as gatys_style
from impasto.core.jobs.record import Progress
from impasto.core.losses.networks import load_loss_networks
from impasto.core.losses.style_image import read_style_image
from impasto.core.params import GatysParams
from impasto.core.pictures.codec import encode, read_picture
from impasto.worker.jobs.device import free_device
from impasto.worker.jobs.protocol import PLOT_EVERY, PREVIEW_EVERY, Desk, Message
from impasto.worker.training.losses_csv import Step, log_step, start_log
from impasto.worker.training.plots import plot_losses


def paint(desk: Desk) -> Message:
    """Paint, and tell of it; the best painting so far when the job is canceled."""
    params = GatysParams(**desk.job.params)
    (photograph,) = desk.inputs("image")
    with free_device(desk.settings) as device:
        networks = load_loss_networks(desk.settings.vgg16)
        images = [read_style_image(path) for path in desk.inputs("style_image")]
        style = gatys_style.find_style(params, images, desk.settings.models / "styles", networks.vgg)
        reporter = _Reporter(desk, params)
        painting = gatys.paint_pixels(
            read_picture(photograph),
            style,
            params,
            networks,
            device=device,
            on_step=reporter.show,
            should_stop=desk.told_to_end,
            state=reporter.state,
            save_every=desk.settings.save_every,
        )
    if desk.order == "stop":
        return Message(ending="stopped", files=reporter.state_files())
    write_bytes(desk.folder / "result.png", encode(painting, "png"))
    plot_losses(desk.folder, desk.folder / "losses.png", reporter.title)
    files = {"result": "result.png", "losses": "losses.csv", "plot": "losses.png"}
    return Message(ending="canceled" if desk.order == "cancel" else "succeeded", files=files)


class _Reporter:
    """Steps to news: the losses in their file, a preview now and then, the state whenever it was saved."""

    def __init__(self, desk: Desk, params: GatysParams) -> None:
        self.desk, self.params = desk, params
        self.state = desk.folder / "state.pt"
        self._saved = self._stamp()
        self.title = f"{params.style or 'own style'}, {params.optimizer}"
        self._started, self._last = False, time.monotonic()

    def show(self, step: gatys.Step) -> None:
        if not self._started:
            start_log(self.desk.folder, step.number - 1, [name for name in step.losses if name != "total"])
            self._started = True
        seconds, self._last = time.monotonic() - self._last, time.monotonic()
        lr = self.params.lr if self.params.optimizer == "adam" else 1.0
        row = Step(step.number, step.total, step.losses, lr, seconds)
        log_step(self.desk.folder, row, main=True)
        files = {}
        if self._stamp() != self._saved:
            self._saved = self._stamp()
            files = self.state_files()
        if self.desk.due("preview", PREVIEW_EVERY):
            write_bytes(self.desk.folder / "preview.png", encode(step.picture(), "png"))
            files |= {"preview": "preview.png", "losses": "losses.csv"}
        if self.desk.due("plot", PLOT_EVERY):
            plot_losses(self.desk.folder, self.desk.folder / "losses.png", self.title)
            files["plot"] = "losses.png"
        progress = Progress(step=step.number, total=step.total, losses=step.losses, eta_s=step.seconds_left)
        self.desk.tell(Message(progress=progress, files=files))

    def state_files(self) -> dict[str, str]:
        return {"state": self.state.name, "losses": "losses.csv"} if self.state.exists() else {}

    def _stamp(self) -> tuple[int, int] | None:
        return stamp(self.state) if self.state.exists() else None
