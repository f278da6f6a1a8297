#!/usr/bin/env python3
"""Draws docs/throughput.svg, the README's picture, from bench/results/gpu_accept_h200.jsonl.

    tools/draw_throughput.py [--check]

Speed against GPU memory beyond the CUDA context, for embound under one budget after another (the
lines "sweep") and for sentence-transformers at its batch sizes ("abstracts"): one model, one file
of texts, one card. --check draws nothing and fails if the picture is not what the results give.

SPDX-License-Identifier: Apache-2.0
"""
import json
import math
import pathlib
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
RESULTS = ROOT / "bench" / "results" / "gpu_accept_h200.jsonl"
PICTURE = ROOT / "docs" / "throughput.svg"
WIDTH, HEIGHT = 760, 350
LEFT, RIGHT, TOP, BOTTOM = 56, 20, 56, 52
MEMORY = (10, 5000)  # MiB, a logarithmic axis
SPEED = (0, 16)  # million tokens a second
STYLE = """
text { font: 13px system-ui, sans-serif; fill: #59636e }
.title { font-size: 15px; font-weight: 600; fill: #1f2328 }
.grid { stroke: #d1d9e0 }
.ours { stroke: #0969da; fill: #0969da }
.theirs { stroke: #bc4c00; fill: #bc4c00 }
path { fill: none !important; stroke-width: 2 }
text.ours, text.theirs { stroke: none; font-weight: 600 }
@media (prefers-color-scheme: dark) {
  text { fill: #9198a1 } .title { fill: #f0f6fc } .grid { stroke: #3d444d }
  .ours { stroke: #4493f8; fill: #4493f8 } .theirs { stroke: #f0883e; fill: #f0883e }
}"""


def points():
    """(MiB, million tokens a second) of ours by memory; (the same, batch size) of theirs."""
    ours, theirs = [], []
    for text in RESULTS.read_text(encoding="utf-8").splitlines():
        line = json.loads(text)
        if line.get("bench") == "sweep" and line.get("tokens_per_second"):
            ours.append((line["nvml_beyond_mb"] * 1e6 / 2**20, line["tokens_per_second"] / 1e6))
        elif line.get("bench") == "abstracts" and line.get("mib_torch"):
            theirs.append((line["mib_torch"], line["tokens_per_second"] / 1e6, line["batch"]))
    return sorted(ours), sorted(theirs)


def x_of(mebibytes):
    """The place on the axis of memory."""
    low, high = map(math.log, MEMORY)
    return LEFT + (math.log(mebibytes) - low) / (high - low) * (WIDTH - LEFT - RIGHT)


def y_of(speed):
    """The place on the axis of speed."""
    low, high = SPEED
    return HEIGHT - BOTTOM - (speed - low) / (high - low) * (HEIGHT - TOP - BOTTOM)


def text(x, y, words, kind="", anchor="middle"):
    """A word at a place."""
    kind = f' class="{kind}"' if kind else ""
    return f'<text x="{x:.0f}" y="{y:.0f}" text-anchor="{anchor}"{kind}>{words}</text>'


def curve(found, kind):
    """Points and the line through them."""
    places = [(x_of(p[0]), y_of(p[1])) for p in found]
    path = " L".join(f"{x:.1f} {y:.1f}" for x, y in places)
    return [f'<path class="{kind}" d="M{path}"/>'] + [
        f'<circle class="{kind}" cx="{x:.1f}" cy="{y:.1f}" r="4"/>' for x, y in places]


def draw():
    """The picture's text."""
    ours, theirs = points()
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
             'role="img" aria-label="Tokens a second against GPU memory">',
             f"<style>{STYLE}</style>",
             text(LEFT, 24, "Million tokens a second, by GPU memory beyond the CUDA context",
                  "title", "start")]
    for speed in range(SPEED[0], SPEED[1] + 1, 4):
        y = y_of(speed)
        parts += [f'<path class="grid" d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}"/>',
                  text(LEFT - 8, y + 4, speed, anchor="end")]
    parts += [text(x_of(size), HEIGHT - BOTTOM + 20, f"{size:,} MiB")
              for size in (10, 30, 100, 300, 1000, 3000)]
    parts.append(text(LEFT, HEIGHT - 10, "all-MiniLM-L6-v2, f16, abstracts of 256 tokens, text "
                      "file to vectors, one NVIDIA H200", anchor="start"))
    parts += curve(ours, "ours") + curve(theirs, "theirs")
    memory, speed = ours[-1]
    parts.append(text(x_of(memory) + 12, y_of(speed) + 5, "embound, whatever the budget", "ours",
                      "start"))
    parts.append(text(x_of(theirs[1][0]), y_of(theirs[1][1]) - 34, "sentence-transformers",
                      "theirs"))
    parts += [text(x_of(memory), y_of(speed) - 12, f"batch {batch:,}")
              for memory, speed, batch in theirs]
    return "\n".join(parts) + "\n</svg>\n"


def main():
    """Writes the picture, or compares it."""
    if "--check" not in sys.argv[1:]:
        PICTURE.write_text(draw(), encoding="utf-8")
        return 0
    same = PICTURE.exists() and PICTURE.read_text(encoding="utf-8") == draw()
    print("picture: as the results have it" if same else
          f"picture: {PICTURE.relative_to(ROOT)} is not what the results give "
          "(tools/draw_throughput.py)")
    return 0 if same else 1


if __name__ == "__main__":
    sys.exit(main())
