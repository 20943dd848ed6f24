"""The figures that tests measure and `make chaos` shows."""


def report(topic: str, text: str) -> None:
    print(f"\n{topic}: {text}", flush=True)


def percentile(values: list[float], part: float) -> float:
    return sorted(values)[min(len(values) - 1, int(part * len(values)))]
