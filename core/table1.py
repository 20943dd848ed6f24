"""The report's Table 1, its twenty models, and the numbers that our own of them are trained with."""

from typing import Any, Literal

from core.names import style_of
from core.recipes import ENLARGED, Stage, TrainParams

Kind = Literal["report", "ours"]

TABLE_1: dict[tuple[str, str], dict[str, Any]] = {
    ("aonet", "coco"): {"size": 256, "content_weight": 17, "style_weight": 50, "content_layers": ("relu2_2",)},
    ("aonet", "tinyimagenet"): {"size": 256, "content_weight": 17, "style_weight": 50, "content_layers": ("relu1_2",)},
    ("vgg16", "coco"): {"size": 256, "content_weight": 17, "style_weight": 50, "content_layers": ("relu2_2",)},
    ("vgg16", "tinyimagenet"): {"size": 256, "content_weight": 1, "style_weight": 5, "content_layers": ("relu1_2",)},
}
"""Table 1 by network and dataset; batch 4, Adam at 1e-3 and one epoch are `TrainParams`' defaults."""

OURS: dict[str, Any] = {
    "normalise": True,
    "content_weight": 1,
    "style_from": 1,
    "style_weight": 10,
    "tv_weight": 0.1,
    "content_layers": ("relu2_2", "relu3_3"),
    "steps": 600,
    "lr_fall": 0.5,
    "output_lr": 64,
    "clip": 1,
    "augment": True,
    "warmup": (
        Stage(steps=400, size=96, batch=4, lr=2e-3),
        Stage(steps=200, size=128, batch=2, lr=1e-3, style_weight=0.5),
    ),
}
"""What our own checkpoints are trained with. Table 1's weights are the original VGG16's; under the bundled loss network
they leave the photograph tinted, not painted."""

OURS_BY_ARCH: dict[str, dict[str, Any]] = {
    "vgg16": {
        "style_weight": 6,
        "warmup": (
            Stage(steps=600, size=96, batch=4, lr=3e-3),
            Stage(steps=300, size=128, batch=4, lr=1e-3, style_weight=0.5),
        ),
    }
}
"""Where a network needs other numbers: VGG16Net sees the photograph through an eighth of its size, and learns to give
it back more slowly."""

OURS_WARM: dict[str, Any] = {
    "size": 192,
    "batch": 1,
    "steps": 500,
    "warmup": (),
    "style_from": None,
    "lr_fall": 0.7,
    "tv_weight": 0.5,
    "lattice_weight": 200,
    "style_margin": 24,
    "excess_weight": 5,
    "leak": 0.1,
    "tones": 0.3,
    "grain": 10,
    "clamp": True,
}
"""What changes for a network that starts from a trained one: it can paint already, and learns another hand. Without a
grain even areas stay empty, or fill with a weave of four pixels, the network's own stride; that the grain alone does
not take away, more total variation only makes fainter, and the lattice term removes. Without the clamp values fall to
-200, and neon specks and blobs are what is left of them between 0 and 255; without the excess some stay. Without the
leak blown-out lights and deep shadows may come out grey. The tones are for those, rare in crops, in which some networks
paint blotches. The margin is from when VGG16Net's encoder saw zeros beyond the borders, and its texture lay there."""

OURS_WARM_BY_ARCH: dict[str, dict[str, Any]] = {
    "aonet": {"brightness_weight": 0.5},
    "vgg16": {
        "size": 160,
        "enlarged": ENLARGED["vgg16"],
        "content_layers": ("relu2_2", "relu3_3", "relu4_2"),
        "brightness_weight": 3,
        "checkerboard_weight": 400,
    },
}
"""What changes further by network. Without the brightness VGG16Net's paintings are ornaments with no subject; without
the checkerboard there are fine dots in its strokes. AONet keeps outlines by itself, but for wave. Trained on
pictures as they are, VGG16Net's strokes came out half as large as meant once they were shrunk, and no loss saw the
weave, droplets and beads that were left of them."""

OURS_WARM_BY_ROW: dict[tuple[str, str], dict[str, Any]] = {
    ("aonet", "tinyimagenet"): {"size": 160},
    ("vgg16", "tinyimagenet"): {"size": 128},
}
"""What changes further by network and dataset: pictures of 64 px are only blurred at a larger size, and cost more."""

OURS_BY_STYLE: dict[str, dict[str, dict[str, Any]]] = {
    "aonet": {
        "wave": {"leak": 0.3},
        "the_scream": {"style_weight": 5},
        "udnie": {"style_weight": 8, "leak": 0.3},
        "the_shipwreck": {"style_weight": 4},
        "rain_princess": {"style_weight": 6},
    },
    "vgg16": {
        "the_scream": {"style_weight": 4},
        "udnie": {"style_weight": 5},
        "the_shipwreck": {"style_weight": 5},
        "rain_princess": {"style_weight": 8, "lattice_weight": 800},
    },
}
"""Where a style needs other numbers than its network's. At AONet's 10 all but wave are blotches of pure colour, with
little left of the subject; at a leak of 0.1 its udnie had grey or blue spots in shadows, its wave green ones in
blown-out lights. VGG16Net's scream at 5, without relu4_2, had little of the subject left (a correlation of 0.23); its
rain_princess is thin at 5, at 10 hides the subject, and has more of a canvas at a lattice of 400. None has
tiles: with the style in every quarter AONet's scream and shipwreck were mud after 150 steps."""

OURS_OF_SAME_STYLE: dict[str, dict[str, dict[str, Any]]] = {
    "aonet": {
        "wave": {
            "learns": "around",
            "coarse_weight": 1,
            "style_weight": 8,
            "brightness_weight": 3,
            "content_layers": ("relu3_3", "relu4_2"),
        }
    },
    "vgg16": {
        "wave": {"learns": "end", "style_weight": 14},
        "the_scream": {"learns": "end", "style_weight": 12},
        "udnie": {"learns": "end", "style_weight": 14},
        "the_shipwreck": {"learns": "end"},
        "rain_princess": {"learns": "end"},
    },
}
"""Where a network that starts from its own style needs other numbers. From pictures of 64 px all of VGG16Net learnt to
see less of a subject; its end makes new strokes of what it sees, lets the style weigh more, and is a hundredth of the
weights, so that git packs the rest once. AONet's wave had its texture in islands, with empty cream between them where a
face should be: with all five of these there are fewer, and outlines between. COCO's had a style weight of 4."""

FIRST = "coco"
"""The dataset that each network is trained on first; on the other each style starts from itself."""

PARENTS: dict[str, str | None] = {
    "wave": None,
    "the_scream": "wave",
    "udnie": "the_scream",
    "the_shipwreck": "the_scream",
    "rain_princess": "the_scream",
}
"""The style that each starts from on the first dataset, in the order of training."""


def recipe(arch: str, dataset: str, style: str, kind: Kind = "report", **changes: Any) -> TrainParams:
    """Table 1's parameters (`report`) or our own (`ours`) for one model, with `changes` over them.

    Another dataset than the report's two takes the row of `coco`. Raises pydantic's ValidationError.
    """
    row = TABLE_1.get((arch, dataset), TABLE_1.get((arch, "coco"), {}))
    if (dataset, style) == ("tinyimagenet", "rain_princess") and arch == "vgg16":
        row = row | {"size": 224}
    if kind == "ours":
        row = row | OURS | OURS_BY_ARCH.get(arch, {})
        if start := changes.get("warm_start"):
            row = row | OURS_WARM | OURS_WARM_BY_ARCH.get(arch, {}) | OURS_WARM_BY_ROW.get((arch, dataset), {})
        row = row | OURS_BY_STYLE.get(arch, {}).get(style, {})
        if start and style_of(start) == style:
            row = row | OURS_OF_SAME_STYLE.get(arch, {}).get(style, {})
    return TrainParams(arch=arch, dataset=dataset, style=style, **(row | changes))


def twenty(kind: Kind = "report", **changes: Any) -> list[TrainParams]:
    """All of Table 1's models, in the order of training.

    Our own start from trained ones (`PARENTS`). A name among `changes` (arch, dataset, style) leaves only its models.
    Raises as `recipe`.
    """
    rows = []
    for arch, dataset in TABLE_1:
        for style, parent in PARENTS.items():
            names = {"arch": arch, "dataset": dataset, "style": style}
            if any(changes.get(key, name) != name for key, name in names.items()):
                continue
            own: dict[str, Any] = {}
            if kind == "ours":
                start = parent if dataset == FIRST else style
                own = {"warm_start": start and f"{arch}/{FIRST}/{start}"}
            rows.append(recipe(kind=kind, **(names | own | changes)))
    return rows
