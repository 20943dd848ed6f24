"""Neural style transfer: `impasto.load_model("aonet/coco/wave")(picture)` paints a picture.

Importing this package imports neither numpy nor torch: the sandbox's processes import it, too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, overload

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL import Image

    from impasto.core.pictures.codec import Picture
    from impasto.core.settings import Settings
    from impasto.core.stylize.engine import Painter

OPTIONS = ("strength", "preserve_color", "paint_size", "max_side")
"""The parameters of `/stylize` that a `Model` takes; `core.paint_params.PaintParams` has their bounds and defaults."""


def load_model(name: str) -> Model:
    """Load a trained network by its name, ARCH/DATASET/STYLE. The settings are those of the environment (IMPASTO_*).

    Raises NotFound, with the known names and the nearest; BadCheckpoint; Unavailable for a GPU that is not there.
    """
    from impasto.core.nets.checkpoints import Zoo
    from impasto.core.settings import Settings
    from impasto.core.stylize.engine import open_engine

    settings = Settings()
    entry = Zoo(settings.models, settings.styles).named(name)
    return Model(name, open_engine(settings).painter(entry.path), settings)


class Model:
    """A trained network, loaded. It paints what `POST /stylize` paints. Safe to call from many threads."""

    def __init__(self, name: str, painter: Painter, settings: Settings) -> None:
        self.name, self._painter, self._settings = name, painter, settings

    @overload
    def __call__(self, picture: NDArray[np.uint8], **options: Any) -> NDArray[np.uint8]: ...
    @overload
    def __call__(self, picture: Image.Image, **options: Any) -> Image.Image: ...
    def __call__(self, picture: NDArray[np.uint8] | Image.Image, **options: Any) -> NDArray[np.uint8] | Image.Image:
        """Return the painting of an array, uint8 (H, W, 3), as an array, and of a Pillow image as an image.

        An image is turned upright by its EXIF and converted to sRGB; its alpha is kept. `options` are `OPTIONS`.
        Raises BadParameter for an option out of bounds, BadPicture for another array or a side under 16 px, TooLarge
        where the network would see more pixels than IMPASTO_MAX_PAINTED.
        """
        import numpy as np
        from PIL import Image
        from pydantic import ValidationError

        from impasto.core.errors import BadParameter
        from impasto.core.paint_params import PaintParams
        from impasto.core.stylize.stylize import paint

        if others := options.keys() - set(OPTIONS):
            raise TypeError(f"A model takes {', '.join(OPTIONS)}; not {', '.join(sorted(others))}.")
        arch, dataset, style = self.name.split("/")
        try:
            params = PaintParams(style=style, arch=arch, dataset=dataset, **options)
        except ValidationError as error:
            raise BadParameter("; ".join(f"{e['loc'][0]}: {e['msg']}" for e in error.errors())) from error
        painting = paint(self._painter, self._opened(picture), params, self._settings.max_painted)
        if isinstance(picture, np.ndarray):
            return painting.rgb
        image = Image.fromarray(painting.rgb)
        if painting.alpha is not None:
            image.putalpha(Image.fromarray(painting.alpha))
        return image

    def _opened(self, picture: NDArray[np.uint8] | Image.Image) -> Picture:
        """The picture as it would be decoded from a file. It is the user's own: its size has no limit."""
        import numpy as np
        from PIL import ImageOps

        from impasto.core.errors import BadPicture
        from impasto.core.pictures.codec import Picture, pixels
        from impasto.core.pictures.guard import OWN, check_pixels

        if not isinstance(picture, np.ndarray):
            return pixels(ImageOps.exif_transpose(picture), OWN)
        if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3:
            raise BadPicture(f"The array is {picture.dtype} {picture.shape}: give uint8 (H, W, 3).")
        check_pixels(picture.shape[1], picture.shape[0], OWN)
        return Picture(picture)
