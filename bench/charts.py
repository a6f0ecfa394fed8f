"""Pictures of what the bench found: a roofline, engines beside each other, layers against NumPy.

    python bench/charts.py layers.jsonl numpy.jsonl results.jsonl --out charts

reads the JSON lines of bench_layers.py, bench_numpy.py and compare_peers.py, whichever are given, and writes

    roofline.png         the distinct layers of whole networks under the machine's roofs
    numpy.png            float32 NumPy's time over fastcnn's, for each layer and operation
    engines.png          each engine's time over fastcnn's, for each workload
    memory.png           each engine's largest memory, for each workload

Rows of one thing that were appended by several runs count once: the last. `training_charts.py` draws those of training.
Needs matplotlib: pip install matplotlib
"""

from __future__ import annotations

import argparse
import json
import math
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

Row = dict[str, Any]

DPI = 120
WIDTH = 10.5  # inches
OURS = "fastcnn"
COLOURS = ("#1f5fa8", "#d1702a", "#3d8f4f", "#9b4f96", "#7a6a53", "#c2413b", "#5b8c98", "#8c8c8c")
MARKERS = {"gemm": "o", "winograd": "^", "dense": "s"}
ROOF_TEXT: Row = {"fontsize": 9, "va": "bottom", "rotation_mode": "anchor"}
LABELLED = 11  # points of the roofline with their layer's name, at most


def read(paths: Iterable[Path]) -> list[Row]:
    """Return the rows of files of JSON lines; raises ValueError naming a line that is none."""
    rows = []
    for path in paths:
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            try:
                row = json.loads(line)
            except ValueError as error:
                raise ValueError(f"{path}:{number}: not a JSON line ({error})") from error
            rows.append(row)
    return rows


def last_of(rows: Iterable[Row], key: Callable[[Row], object]) -> list[Row]:
    """Return of rows with the same key the last, in the order of their first."""
    found: dict[object, Row] = {}
    for row in rows:
        found[key(row)] = row
    return list(found.values())


def new_figure(height: float) -> Any:
    """Return an empty figure of the common width."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise SystemExit("charts need matplotlib: pip install matplotlib") from error
    figure = Figure(figsize=(WIDTH, height), dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)  # which can measure texts
    return figure


def place_of(row: Row) -> str:
    """Return where a row was measured."""
    return f"{row['cpu']}, {threads_of([row['threads']])}, {row['isa']}"


def threads_of(counts: Iterable[int]) -> str:
    """Return numbers of threads in words."""
    different = sorted(set(counts))
    return f"{' or '.join(map(str, different))} thread{'' if different == [1] else 's'}"


# -- roofline ----------------------------------------------------------------------------------------------------------


def roofline(rows: list[Row], path: Path) -> None:
    """Draw the layers of bench_layers.py: arithmetic a byte against GFLOP/s, under the roofs of their run."""
    rows = last_of((row for row in rows if "direct" in row), lambda row: (row["model"], row["layer"], row["batch"]))
    roof = rows[-1]["roof"]
    figure = new_figure(6.8)
    axes = figure.subplots()
    axes.set_xscale("log")
    axes.set_yscale("log")
    left, right = 0.25, max(600.0, 2 * max(row["intensity"] for row in rows))
    draw_roofs(axes, roof, left, right)
    models = list(dict.fromkeys(row["model"] for row in rows))
    for model, colour in zip(models, COLOURS, strict=False):
        for kind, marker in MARKERS.items():
            chosen = [row for row in rows if row["model"] == model and kind_of(row) == kind]
            if chosen:
                axes.scatter(
                    [row["intensity"] for row in chosen],
                    [row["gflops"] for row in chosen],
                    s=[30 + 900 * share_of(row, rows) for row in chosen],
                    marker=marker,
                    color=colour,
                    alpha=0.65,
                    edgecolors="white",
                    linewidths=0.6,
                )
    axes.set_xlim(left, right)
    low = min(left * roof["gbytes"], min(row["gflops"] for row in rows))
    axes.set_ylim(low / 1.3, 1.7 * max(roof["gflops"], max(row["gflops"] for row in rows)))
    axes.set_xlabel("intensity: arithmetic of direct convolution over bytes of x, weights and y, FLOP a byte")
    axes.set_ylabel("GFLOP/s by direct convolution's arithmetic")
    axes.set_title(f"Layers under the roofs: batch {rows[-1]['batch']}, {place_of(rows[-1])}", fontsize=11)
    axes.grid(alpha=0.25, which="both", lw=0.5)
    key = axes.legend(handles=legend(models), loc="lower right", fontsize=9)
    note = axes.annotate(
        "Winograd multiplies up to 4 times less than direct convolution,\nby whose arithmetic it is drawn here: "
        "such points may lie above\nthe roof, as may layers whose input is still in a cache.",
        (0.012, 0.985),
        xycoords="axes fraction",
        va="top",
        fontsize=8.5,
        bbox={"boxstyle": "round", "facecolor": "#f4f1e8", "edgecolor": "#c9c2ac"},
    )
    name_memory_roof(axes, roof, left)
    name_points(axes, rows, [key, note])
    save(figure, path)


def draw_roofs(axes: Any, roof: Row, left: float, right: float) -> None:
    """Draw min(peak, memory * intensity) from intensity `left` to `right`, and name the peak."""
    corner = roof["gflops"] / roof["gbytes"]
    axes.plot([left, corner, right], [left * roof["gbytes"], roof["gflops"], roof["gflops"]], color="black", lw=1.5)
    axes.text(right / 1.1, roof["gflops"] * 1.03, f"peak {roof['gflops']:.0f} GFLOP/s", ha="right", **ROOF_TEXT)


def name_memory_roof(axes: Any, roof: Row, left: float) -> None:
    """Write beside the memory's roof, in its direction; limits and labels of the axes must be final."""
    axes.figure.draw_without_rendering()  # the axes take their final place, so that angles and distances are true
    corner = roof["gflops"] / roof["gbytes"]
    (x0, y0), (x1, y1) = axes.transData.transform([(left, left), (corner, corner)])
    angle = math.degrees(math.atan2(y1 - y0, x1 - x0))
    place = left * 1.25, left * 1.25 * roof["gbytes"] * 1.06
    axes.text(*place, f"memory {roof['gbytes']:.1f} GB/s", rotation=angle, **ROOF_TEXT)


def kind_of(row: Row) -> str:
    """Return which marker a row has."""
    return "dense" if row["operation"] == "dense_forward" else row["algorithm"]


def share_of(row: Row, rows: list[Row]) -> float:
    """Return a layer's share of its network's time."""
    return float(row["seconds"] / sum(other["seconds"] for other in rows if other["model"] == row["model"]))


def legend(models: list[str]) -> list[Any]:
    """Return what colours and markers mean."""
    from matplotlib.lines import Line2D

    colours = [Line2D([], [], marker="o", ls="", color=c, label=m) for m, c in zip(models, COLOURS, strict=False)]
    names = {"gemm": "convolution, direct", "winograd": "convolution, Winograd", "dense": "dense"}
    markers = [Line2D([], [], marker=m, ls="", color="grey", label=names[k]) for k, m in MARKERS.items()]
    size = Line2D([], [], ls="", label="area: share of the network's time")
    return [*colours, *markers, size]


def name_points(axes: Any, rows: list[Row], others: list[Any]) -> None:
    """Write layers beside their points, those that take most of their network first, where nothing is in the way."""
    from matplotlib.transforms import Bbox

    renderer = axes.figure.canvas.get_renderer()
    points = axes.transData.transform([(row["intensity"], row["gflops"]) for row in rows])
    taken = [Bbox.from_bounds(x - 4, y - 4, 8, 8) for x, y in points]
    taken += [thing.get_window_extent(renderer) for thing in (*axes.texts, *others)]
    inside = axes.get_window_extent(renderer)
    named: set[str] = set()
    by_share = sorted(zip(rows, points, strict=True), key=lambda pair: -share_of(pair[0], rows))
    for row, (x, y) in by_share:
        if len(named) == LABELLED:
            break
        if row["layer"] in named:
            continue
        for dx, dy, ha, va in (
            (9, 0, "left", "center"),
            (-9, 0, "right", "center"),
            (0, 10, "center", "bottom"),
            (0, -10, "center", "top"),
        ):
            text = axes.annotate(
                row["layer"].replace(" winograd", "").replace(" gemm", "").replace(" pooled", " + pool"),
                axes.transData.inverted().transform((x, y)),
                (dx, dy),
                textcoords="offset points",
                fontsize=7.5,
                ha=ha,
                va=va,
                color="#333333",
            )
            box = text.get_window_extent(renderer).padded(1)
            if all(inside.contains(*corner) for corner in box.corners()) and not any(box.overlaps(t) for t in taken):
                taken.append(box)
                named.add(row["layer"])
                break
            text.remove()


# -- bars --------------------------------------------------------------------------------------------------------------


def engine_of(label: str) -> str:
    """Return the engine of a label ENGINE[:VARIANT][@SETTING]."""
    return re.split("[:@]", label)[0]


def bars(
    groups: dict[str, list[tuple[str, float, str]]], path: Path, title: str, label: str, line: float | None
) -> None:
    """Draw horizontal bars in groups: (name, value, text behind the bar); `line` marks a value."""
    names = {engine_of(name) for group in groups.values() for name, _, _ in group}
    ordered = sorted(names, key=lambda name: (name != OURS, name))
    colours = {name: COLOURS[i % len(COLOURS)] for i, name in enumerate(ordered)}  # of an engine in every picture
    count = sum(len(group) + 1 for group in groups.values())
    figure = new_figure(1.2 + 0.235 * count)
    axes = figure.subplots()
    y, ticks, tick_names = 0.0, [], []
    white: Row = {"facecolor": "white", "edgecolor": "none", "pad": 1}
    longest = max(value for group in groups.values() for _, value, _ in group)
    for heading, group in groups.items():
        axes.text(0.004 * longest, y, heading, fontsize=9, fontweight="bold", va="center", bbox=white)
        y += 1
        for name, value, text in group:
            axes.barh(y, value, height=0.78, color=colours[engine_of(name)])
            axes.text(value + 0.008 * longest, y, text, fontsize=8.5, va="center")
            ticks.append(y)
            tick_names.append(name)
            y += 1
    axes.set_yticks(ticks, tick_names, fontsize=8.5)
    axes.set_ylim(y - 0.4, -0.6)
    axes.set_xlim(0, longest * 1.22)
    if line is not None:
        axes.axvline(line, color="black", lw=0.8, ls=":")
    axes.set_xlabel(label)
    axes.set_title(title, fontsize=11)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    save(figure, path)


def workload_of(row: Row) -> str:
    """Return the name of what engines of a row were compared on."""
    work = row["workload"]
    words = {"infer": "prediction", "train": "training step"}
    size = work["size"]
    return f"{work['model']}, {words.get(work['mode'], work['mode'])}, batch {work['batch']}, {size}x{size}"


def by_workload(rows: list[Row]) -> dict[str, list[Row]]:
    """Return each engine's fastest way, fastest first and failures last, for each workload that fastcnn has done."""
    groups: dict[str, list[Row]] = {}
    for row in last_of(rows, lambda row: (workload_of(row), row["workload"]["threads"], row["label"])):
        groups.setdefault(workload_of(row), []).append(row)
    best: dict[str, list[Row]] = {}
    for name, group in groups.items():
        if not any(row["label"] == OURS and not row["failure"] for row in group):
            continue
        ways: dict[str, Row] = {}
        for row in sorted(group, key=lambda row: (bool(row["failure"]), row.get("median", 0.0))):
            ways.setdefault(engine_of(row["label"]), row)
        best[name] = list(ways.values())
    return best


def engines(rows: list[Row], out: Path) -> list[Path]:
    """Draw times and memory of compare_peers.py's engines."""
    groups = by_workload(rows)
    if not groups:
        return []
    where = f"{rows[-1]['cpu']}, {threads_of(row['workload']['threads'] for row in rows)}"
    times: dict[str, list[tuple[str, float, str]]] = {}
    memory: dict[str, list[tuple[str, float, str]]] = {}
    for name, group in groups.items():
        ours = next(row["median"] for row in group if row["label"] == OURS)
        times[name], memory[name] = [], []
        for row in group:
            if row["failure"]:
                times[name].append((row["label"], 0.0, "FAIL"))
                continue
            ratio, mebibytes = row["median"] / ours, row["peak_rss_bytes"] / 2**20
            times[name].append((row["label"], ratio, f"{ratio:.2f} x   {1e3 * row['median']:.4g} ms"))
            memory[name].append((row["label"], mebibytes, f"{mebibytes:.0f} MiB"))
        memory[name].sort(key=lambda bar: bar[1])
    bars(times, out / "engines.png", f"Time of a call over fastcnn's: {where}", "times fastcnn's median", 1.0)
    bars(memory, out / "memory.png", f"Largest resident memory of the process: {where}", "MiB", None)
    return [out / "engines.png", out / "memory.png"]


def numpy_ratios(rows: list[Row], path: Path) -> None:
    """Draw float32 NumPy's time over fastcnn's: a row of dots per operation, a dot per layer."""
    rows = last_of(rows, lambda row: (row["layer"], row["operation"], row["batch"]))
    operations = list(dict.fromkeys(row["operation"] for row in rows))
    figure = new_figure(1.6 + 0.42 * len(operations))
    axes = figure.subplots()
    axes.set_xscale("log")
    slower = 0
    for y, operation in enumerate(operations):
        chosen = [row for row in rows if row["operation"] == operation]
        ratios = sorted(row["numpy_seconds"] / row["seconds"] for row in chosen)
        slower += sum(ratio <= 1 for ratio in ratios)
        colours = [COLOURS[0] if ratio > 1 else "#c2413b" for ratio in ratios]
        axes.scatter(ratios, [y] * len(ratios), color=colours, alpha=0.55, s=38, edgecolors="none")
        middle = ratios[len(ratios) // 2]
        axes.plot([middle, middle], [y - 0.28, y + 0.28], color="black", lw=1.6)
        text = f"{len(ratios)} layers, {ratios[0]:.2f} to {ratios[-1]:.1f} x"
        axes.text(1.01, y, text, fontsize=8.5, va="center", transform=axes.get_yaxis_transform())
    axes.axvline(1, color="black", lw=0.8, ls=":")
    batches = {
        operation: sorted({row["batch"] for row in rows if row["operation"] == operation}) for operation in operations
    }
    names = [f"{operation}, batch {' '.join(map(str, batches[operation]))}" for operation in operations]
    axes.set_yticks(range(len(operations)), names, fontsize=8.5)
    axes.set_ylim(len(operations) - 0.5, -0.5)
    ticks = [tick for tick in (0.5, 1, 2, 3, 5, 10, 20, 50, 100) if axes.get_xlim()[0] < tick < axes.get_xlim()[1]]
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.set_xticks([], minor=True)
    axes.grid(alpha=0.25, axis="x", lw=0.5)
    axes.set_xlabel(
        "float32 NumPy's time over fastcnn's; the stroke is the median, red is where NumPy is as fast or faster"
    )
    axes.set_title(f"{len(rows) - slower} of {len(rows)} faster than float32 NumPy: {place_of(rows[-1])}", fontsize=11)
    save(figure, path)


def save(figure: Any, path: Path) -> None:
    """Write a figure and say where."""
    figure.savefig(path, dpi=DPI)
    print(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", nargs="+", type=Path, help="files of JSON lines")
    parser.add_argument("--out", type=Path, default=Path("charts"), help="folder of the pictures (default charts)")
    options = parser.parse_args()
    rows = read(options.results)
    options.out.mkdir(parents=True, exist_ok=True)
    layers = [row for row in rows if row.get("bench") == "layers"]
    against = [row for row in rows if row.get("bench") == "numpy"]
    if layers:
        roofline(layers, options.out / "roofline.png")
    if against:
        numpy_ratios(against, options.out / "numpy.png")
    contest = [row for row in rows if "workload" in row and "model" in row["workload"]]
    if contest:
        engines(contest, options.out)
    if not (layers or against or contest):
        parser.error("the files hold no rows of bench_layers.py, bench_numpy.py or compare_peers.py")


if __name__ == "__main__":
    main()
