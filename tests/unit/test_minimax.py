#!/usr/bin/env python3
"""The kernels' polynomials reach the errors that their comments state, and tools/minimax.py would
see it if one did not.

SPDX-License-Identifier: Apache-2.0
"""
import math
import pathlib
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "tests"))
sys.path.insert(0, str(ROOT / "tools"))
import minimax  # noqa: E402
from support import program  # noqa: E402

CHANGES = [  # fit, text of its source, what stands there instead, a finding
    ("exp", "0.00836942f", "0.00837942f", "weighted error"),
    ("exp", "0.49999993f", "0.49999693f", "1 unit in the last place\" is"),
    ("power", "0.242611125f", "0.242711125f", "7.5e-5\" is"),
    ("weight", "0.68126653f", "0.68226653f", "1.8e-3\" is"),
    ("gelu", "0.459162140f", "0.459162940f", "1.4e-8\" is"),
    ("gelu-power", "0.24022226f", "0.24022326f", "1.2e-7\" is"),
    ("gelu-near", "-0.37962849f", "-0.37982849f", "1.7e-4\" is"),
    ("gelu-cuda", "-1.15051436f", "-1.15052436f", "2.4e-6\" is"),
    ("power", "within 7.5e-5", "within 7.4e-5", "does not say"),
    ("power", "tools/minimax.py", "a tool", "does not name"),
]


def main():
    """Known fits, the source as it is, and the source with one thing wrong."""
    tally = program.Tally()
    line = minimax.Fit("line", [], [], 1, math.exp, lambda x: 1, (0, 1), [])
    (offset, slope), worst = minimax.remez(line)
    # the chord's slope; offset and error by the tangent with that slope
    expected = math.e - 1, (math.e - (math.e - 1) * math.log(math.e - 1)) / 2
    near = max(abs(slope - expected[0]), abs(offset - expected[1]), abs(worst - (1 - offset)))
    tally.expect(near < 1e-6, f"the line near e^x: {offset} + {slope} x, off by {worst}")
    fits = {fit.name: (fit, minimax.remez(fit)[1]) for fit in minimax.FITS}
    for fit, best in fits.values():
        for place in fit.places:
            found = minimax.judge(fit, place, minimax.read(place[0]), best)[1]
            tally.expect(not found, "; ".join(found))
    for name, old, new, wanted in CHANGES:
        fit, best = fits[name]
        text = minimax.read(fit.places[0][0])
        tally.expect(old in text, f"{name}: {old} is not in its source")
        found = "; ".join(minimax.judge(fit, fit.places[0], text.replace(old, new), best)[1])
        tally.expect(wanted in found, f"{name} with {new}: wanted '{wanted}', got: {found}")
    tally.end()


if __name__ == "__main__":
    main()
