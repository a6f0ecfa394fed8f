"""Pictures of training: where a step's time goes, how it grows, where whole trainings lead.

    python bench/training_charts.py training.jsonl growth.jsonl convergence.jsonl --out charts

reads the JSON lines of the scripts of these names, whichever are given, and writes

    training.png         phases of training steps: those with arithmetic under the roofs, and the time of each
    growth.png           time and memory of a training step over the batch and over the picture's pixels
    convergence.png      losses of the same trainings with Winograd, without, and in PyTorch

Rows of one thing that were appended by several runs count once: the last. Needs matplotlib: pip install matplotlib
"""

from __future__ import annotations

import argparse
import statistics
from pathlib import Path
from typing import Any

import numpy as np
from bench_convergence import ENGINES, last_loss
from bench_growth import BATCH, SIZE, amount, lines_of
from bench_training import PHASES
from charts import COLOURS, Row, draw_roofs, last_of, name_memory_roof, new_figure, place_of, read, save

SMOOTHED = 15  # steps, over which a loss curve is a running mean
STEP_MARKERS = ("o", "^", "s", "D")  # of cases
PHASE_COLOURS = dict(zip(PHASES, (*COLOURS, "#d9b44a", "#2f2f2f"), strict=True))


# -- phases ------------------------------------------------------------------------------------------------------------


def case_of(row: Row) -> str:
    """Return the name of a workload."""
    return f"{row['model']} {row['size']}x{row['size']} batch {row['batch']}"


def phases(rows: list[Row], path: Path) -> None:
    """Draw the phases of bench_training.py: under the roofs, and as shares of their step."""
    rows = last_of(rows, lambda row: (case_of(row), row["phase"]))
    cases = list(dict.fromkeys(map(case_of, rows)))
    figure = new_figure(6.2 + 0.45 * len(cases))
    over, under = figure.subplots(2, height_ratios=[5.2, 1 + 0.45 * len(cases)])
    phases_roofline(over, [row for row in rows if row["flops"]], cases)
    for y, case in enumerate(cases):
        left = 0.0
        for row in (row for row in rows if case_of(row) == case):
            share = 100 * row["share"]
            under.barh(y, share, left=left, height=0.7, color=PHASE_COLOURS[row["phase"]], edgecolor="white", lw=0.5)
            if share >= 4:
                text = f"{share:.0f}%\n({100 * row['roof_share']:.0f})"
                under.text(left + share / 2, y, text, ha="center", va="center", fontsize=7, color="white")
            left += share
    under.set_yticks(range(len(cases)), cases, fontsize=8.5)
    under.set_ylim(len(cases) - 0.5, -0.5)
    under.set_xlabel("share of the step, %; in brackets what the phase reaches of its roof, %")
    handles = [under.barh(0, 0, color=PHASE_COLOURS[phase]) for phase in PHASES]
    figure.legend(handles, PHASES, loc="outside lower center", ncols=5, fontsize=8.5)
    name_memory_roof(over, rows[-1]["roof"], over.get_xlim()[0])
    save(figure, path)


def phases_roofline(axes: Any, rows: list[Row], cases: list[str]) -> None:
    """Draw the phases that have arithmetic."""
    roof = rows[-1]["roof"]
    axes.set_xscale("log")
    axes.set_yscale("log")
    left, right = 0.25, max(600.0, 2 * max(row["intensity"] for row in rows))
    draw_roofs(axes, roof, left, right)
    for case, marker in zip(cases, STEP_MARKERS * len(cases), strict=False):
        chosen = [row for row in rows if case_of(row) == case]
        axes.scatter(
            [row["intensity"] for row in chosen],
            [row["gflops"] for row in chosen],
            s=[30 + 900 * row["share"] for row in chosen],
            c=[PHASE_COLOURS[row["phase"]] for row in chosen],
            marker=marker,
            alpha=0.75,
            edgecolors="white",
            linewidths=0.6,
        )
        axes.scatter([], [], marker=marker, color="grey", label=case)
    axes.set_xlim(left, right)
    rates = [row["gflops"] for row in rows]
    axes.set_ylim(min(left * roof["gbytes"], *rates) / 1.3, 1.7 * max(roof["gflops"], *rates))
    axes.set_xlabel("intensity: arithmetic of direct convolution over the bytes of all arrays, FLOP a byte")
    axes.set_ylabel("GFLOP/s by direct convolution's arithmetic")
    axes.set_title(f"Phases of training steps under the roofs: {place_of(rows[-1])}", fontsize=11)
    axes.grid(alpha=0.25, which="both", lw=0.5)
    axes.legend(loc="lower right", fontsize=8.5, title="area: share of the step", title_fontsize=8.5)


# -- growth ------------------------------------------------------------------------------------------------------------


def growth(rows: list[Row], path: Path) -> None:
    """Draw the points of bench_growth.py and their lines: time above, memory below."""
    rows = last_of(rows, lambda row: (row["model"], row["grows"], row["size"], row["batch"]))
    figure = new_figure(7.0)
    grid = figure.subplots(2, 2, sharex="col")
    models = list(dict.fromkeys(row["model"] for row in rows))
    for column, grows in enumerate(("batch", "size")):
        time, memory = grid[0][column], grid[1][column]
        for model, colour in zip(models, COLOURS, strict=False):
            chosen = [row for row in rows if (row["model"], row["grows"]) == (model, grows)]
            if len(chosen) > 2:
                growth_of(time, memory, chosen, colour)
        time.set_title(f"{SIZE}x{SIZE}, growing batch" if grows == "batch" else f"batch {BATCH}, growing pictures")
        memory.set_xlabel("images in the batch" if grows == "batch" else "pixels in the batch, thousands")
    grid[0][0].set_ylabel("ms a training step")
    grid[1][0].set_ylabel("MiB (crosses: planned)")
    for axes in grid.flat:
        axes.set_ylim(0, 1.05 * axes.get_ylim()[1])
        axes.grid(alpha=0.25, lw=0.5)
        if axes.has_data():
            axes.legend(fontsize=8.5)
    figure.suptitle(f"How a training step grows: {place_of(rows[-1])}", fontsize=11)
    save(figure, path)


def growth_of(time: Any, memory: Any, rows: list[Row], colour: str) -> None:
    """Draw the points of one network in one direction."""
    by_batch = rows[0]["grows"] == "batch"
    scale = 1 if by_batch else 1e-3
    unit = "image" if by_batch else "1,000 pixels"
    n = np.array([amount(row) for row in rows], np.float64)
    ends, found = np.array([0, n.max()]), lines_of(rows)
    for axes, key, factor, name in (
        (time, "seconds", 1e3, "{:.0f} + {:.3g} ms"),
        (memory, "grown_bytes", 2**-20, "{:.0f} + {:.3g} MiB"),
    ):
        line = found[key]
        words = name.format(factor * line.fixed, factor * line.slope / scale)
        axes.plot(scale * n, [factor * row[key] for row in rows], "o", color=colour, ms=5)
        label = f"{rows[0]['model']}: {words} per {unit}"
        axes.plot(scale * ends, factor * (line.fixed + line.slope * ends), color=colour, lw=1.2, label=label)
    memory.plot(scale * n, [row["planned_bytes"] / 2**20 for row in rows], "x", color=colour, ms=8)


# -- whole trainings ---------------------------------------------------------------------------------------------------


def convergence(rows: list[Row], path: Path) -> None:
    """Draw the losses of bench_convergence.py: a line a course, and the mean of the seeds of each engine."""
    rows = last_of(rows, lambda row: (row["engine"], row["seed"]))
    figure = new_figure(5.2)
    axes = figure.subplots()
    for engine, colour in zip(ENGINES, COLOURS, strict=False):
        own = [row for row in rows if row["engine"] == engine]
        if not own:
            continue
        for row in own:
            axes.plot(*smoothed(row["losses"]), color=colour, lw=0.7, alpha=0.45)
        accuracies = [100 * row["accuracy"] for row in own]
        last = statistics.fmean(map(last_loss, own))
        found = f"accuracy {statistics.fmean(accuracies):.1f}% ({min(accuracies):.1f} to {max(accuracies):.1f})"
        label = f"{engine}: last tenth {last:.3f}, {found}"
        mean = np.mean([row["losses"] for row in own], axis=0)
        axes.plot(*smoothed(mean), color=colour, lw=2, label=label)
    first = rows[0]
    axes.set_yscale("log")
    for axis in (axes.yaxis.set_major_formatter, axes.yaxis.set_minor_formatter):
        axis("{x:g}")
    axes.set_xlabel("step")
    axes.set_ylabel(f"loss of the batch, mean of {SMOOTHED} steps")
    seeds = len({row["seed"] for row in rows})
    work = f"{first['model']}, {first['size']}x{first['size']}, batch {first['batch']}"
    axes.set_title(f"Trained alike from the same start, {seeds} seeds: {work}, Adam, Fashion-MNIST", fontsize=11)
    axes.grid(alpha=0.25, which="both", lw=0.5)
    axes.legend(fontsize=8.5)
    save(figure, path)


def smoothed(losses: Any) -> tuple[Any, Any]:
    """Return steps and running means of losses."""
    width = min(SMOOTHED, len(losses))
    means = np.convolve(losses, np.full(width, 1 / width), mode="valid")
    return np.arange(width, len(losses) + 1), means


PICTURES = {"training": phases, "growth": growth, "convergence": convergence}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", nargs="+", type=Path, help="files of JSON lines")
    parser.add_argument("--out", type=Path, default=Path("charts"), help="folder of the pictures (default charts)")
    options = parser.parse_args()
    rows = read(options.results)
    chosen = {name: [row for row in rows if row.get("bench") == name] for name in PICTURES}
    if not any(chosen.values()):
        parser.error(f"the files hold no rows of {', '.join(f'bench_{name}.py' for name in PICTURES)}")
    options.out.mkdir(parents=True, exist_ok=True)
    for name, found in chosen.items():
        if found:
            PICTURES[name](found, options.out / f"{name}.png")


if __name__ == "__main__":
    main()
