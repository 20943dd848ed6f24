"""The report's Table 1, its twenty models, and the recipe that we train them with."""

from typing import Any

from impasto.core.params import NETWORK, Recipe, TrainParams

TABLE_1: dict[tuple[str, str], dict[str, Any]] = {
    ("aonet", "coco"): {"content_weight": 17, "style_weight": 50, "content_layers": ("relu2_2",)},
    ("aonet", "tinyimagenet"): {"content_weight": 17, "style_weight": 50, "content_layers": ("relu1_2",)},
    ("vgg16", "coco"): {"content_weight": 17, "style_weight": 50, "content_layers": ("relu2_2",)},
    ("vgg16", "tinyimagenet"): {"content_weight": 1, "style_weight": 5, "content_layers": ("relu1_2",)},
}
"""Table 1 by network and dataset."""

REPORT: dict[str, Any] = {"size": 256, "batch": 4, "lr": 1e-3, "tv_weight": 0, "style_size": 256}
"""Parameters that all of Table 1 share. Total variation and the style's size are ours: the report names none."""

OURS: dict[str, Any] = {"size": 256, "batch": 2, "lr": 1e-3}
"""Parameters of our own models."""

STEPS: dict[str, tuple[int, int]] = {"aonet": (1400, 600), "vgg16": (2000, 800)}
"""Steps of a network from random weights, and of one that starts from a trained network."""

STYLE_WEIGHTS: dict[tuple[str, str], float] = {
    ("aonet", "udnie"): 20,
    ("aonet", "the_shipwreck"): 6,
    ("vgg16", "udnie"): 20,
    ("vgg16", "the_scream"): 6,
    ("vgg16", "the_shipwreck"): 4,
}
"""Style weights other than the default, 12, at which udnie keeps too much of the photograph and the others too
little."""

OURS_BY_DATASET: dict[str, dict[str, Any]] = {"tinyimagenet": {"size": 160, "steps": 300}}
"""Changes for single datasets. TinyImageNet's pictures of 64 px are only blurred at a larger size."""

FIRST = "coco"
"""The dataset that each network is trained on first. On the other each style starts from its own network here."""

PARENTS: dict[str, str | None] = {
    "wave": None,
    "udnie": "wave",
    "the_scream": "wave",
    "rain_princess": "udnie",
    "the_shipwreck": "the_scream",
}
"""Style -> the style that it starts from on the first dataset, in the order of training."""


def recipe(arch: str, dataset: str, style: str, kind: Recipe = "ours", **changes: Any) -> TrainParams:
    """Parameters of one model: Table 1's (`report`) or ours (`ours`), with `changes` over them.

    A dataset that is not in the report takes the row of `coco`. Raises pydantic's ValidationError.
    """
    if kind == "report":
        row = REPORT | TABLE_1.get((arch, dataset), TABLE_1.get((arch, FIRST), {}))
        if (arch, dataset, style) == ("vgg16", "tinyimagenet", "rain_princess"):
            row |= {"size": 224}
    else:
        alone, warm = STEPS.get(arch, (None, None))
        row = OURS | {
            "steps": warm if changes.get("warm_start") else alone,
            "style_weight": STYLE_WEIGHTS.get((arch, style), NETWORK.style),
        }
        row |= OURS_BY_DATASET.get(dataset, {})
    return TrainParams(recipe=kind, arch=arch, dataset=dataset, style=style, **(row | changes))


def twenty(kind: Recipe = "ours", **changes: Any) -> list[TrainParams]:
    """All of Table 1's models, in the order of training.

    Ours start from trained ones (`PARENTS`). `arch`, `dataset` and `style` among `changes` choose models. Raises what
    `recipe` raises.
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
