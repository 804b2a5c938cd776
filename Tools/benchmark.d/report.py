"""What was measured, for people and for programs."""
import json
import math
import os
import platform
import shutil
import statistics
import subprocess
from xml.sax.saxutils import escape

COLOURS = ["#1b6ca8", "#8a8a8a", "#e0a030", "#a04080", "#60a060", "#b05030", "#c8c8c8", "#70a8d0"]


def machine():
    """What the figures are worth no more without."""
    model = "unknown"
    with open("/proc/cpuinfo") as file:
        for line in file:
            if line.startswith("model name"):
                model = line.split(":", 1)[1].strip()
                break
    with open("/proc/meminfo") as file:
        memory = int(file.readline().split()[1]) // 1024
    return {"processor": model, "processors": os.cpu_count(), "memoryMiB": memory, "kernel": platform.release()}


def versions(tools, names):
    found = {}
    for name in names:
        program = tools["coffer"] if name.startswith("coffer") else shutil.which(name)
        if not program:
            continue
        words = [program, "version"] if name == "securefs" else [program, "--version"]
        said = subprocess.run(words, capture_output=True, text=True)
        found[name] = ((said.stdout or said.stderr).strip().splitlines() or ["?"])[0]
    return found


def medians(results):
    return {load: {name: statistics.median(values) for name, values in row.items() if values}
            for load, row in results.items()}


def table(results, names, references):
    """Medians, and the first system's ratio to each of the references."""
    middle, first = medians(results), names[0]
    head = [""] + names + [f"× {name}" for name in references]
    rows = [head]
    for load, row in middle.items():
        cells = [load] + [figure(row.get(name)) for name in names]
        for name in references:
            cells.append(f"{row[first] / row[name]:.2f}" if name in row and first in row else "-")
        rows.append(cells)
    widths = [max(len(row[column]) for row in rows) for column in range(len(head))]
    return "\n".join("  ".join(cell.ljust(widths[0]) if column == 0 else cell.rjust(widths[column])
                               for column, cell in enumerate(row)) for row in rows)


def figure(number):
    if number is None:
        return "-"
    return f"{number:,.0f}" if number >= 100 else f"{number:.1f}"


def write_json(path, description):
    with open(path, "w") as file:
        json.dump(description, file, indent=1)
        file.write("\n")


def write_svg(path, results, names, base):
    """Bars of each system's median by that of `base`, on a logarithmic scale from a hundredth to a hundredfold."""
    middle = medians(results)
    bar, left, width = 9, 330, 560
    step = bar * len(names) + 14
    height = 60 + step * len(middle)

    def position(ratio):
        return left + width * (math.log10(min(100, max(0.01, ratio))) + 2) / 4
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{left + width + 90}" height="{height}" '
             'font-family="sans-serif" font-size="12">',
             '<rect width="100%" height="100%" fill="white"/>']
    for index, name in enumerate(names):
        parts.append(f'<rect x="{10 + 110 * index}" y="10" width="10" height="10" fill="{COLOURS[index]}"/>'
                     f'<text x="{24 + 110 * index}" y="19">{escape(name)}</text>')
    for ratio in (0.01, 0.1, 1, 10, 100):
        parts.append(f'<line x1="{position(ratio)}" x2="{position(ratio)}" y1="34" y2="{height - 8}" '
                     f'stroke="{"#444" if ratio == 1 else "#ddd"}"/>'
                     f'<text x="{position(ratio) - 8}" y="46" fill="#666">{ratio:g}×</text>')
    for row, (load, values) in enumerate(middle.items()):
        top = 56 + step * row
        parts.append(f'<text x="8" y="{top + step / 2}">{escape(load)}</text>')
        for index, name in enumerate(names):
            if name not in values or not values.get(base):
                continue
            end = position(values[name] / values[base])
            parts.append(f'<rect x="{left}" y="{top + bar * index}" width="{end - left:.1f}" height="{bar - 1}" '
                         f'fill="{COLOURS[index]}"><title>{escape(name)}: {figure(values[name])}</title></rect>')
    parts.append(f'<text x="{left}" y="{height - 2}" fill="#666">by {escape(base)}</text></svg>')
    with open(path, "w") as file:
        file.write("\n".join(parts) + "\n")
