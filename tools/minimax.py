#!/usr/bin/env python3
"""Fits the kernels' polynomials anew, and measures those that src/ holds.

    tools/minimax.py [--check] [NAME]...

Each polynomial is the minimax fit of a function under a weight: the largest weighted error on an
interval is as small as its degree allows (Remez exchange). Coefficients are rounded for the source,
some by a search of their own, so that those fitted here differ in their last digits. --check prints
findings alone: where an error that a comment states is exceeded or not stated, or where the
weighted error is half as much again as the fit's.

SPDX-License-Identifier: Apache-2.0
"""
import collections
import fractions
import math
import re
import struct
import sys

from c_source import read

GRID = 4001  # odd, so that no point is 0
SLACK = 1.5
NUMBER = re.compile(r"(-?\d+(?:\.\d+)?(?:e[-+]?\d+)?)f\b")
AVX2 = "src/backend/cpu/avx2/avx2.h"
AVX512 = "src/backend/cpu/avx512/avx512.h"

# `places`: (file, function, variable), where Horner's rule begins with the highest power. `fixed`:
# coefficients of the lowest powers. A claim: what the comments say, the bound, the measure of all
# coefficients.
Fit = collections.namedtuple("Fit", "name places fixed degree target weight interval claims")


# ---- functions -----------------------------------------------------------------------------------

def f32(x):
    """The nearest f32."""
    return struct.unpack("f", struct.pack("f", x))[0]


def tail(a):
    """1 - Phi(a), of the normal distribution."""
    return 0.5 * math.erfc(a / math.sqrt(2))


def value(coefficients, x):
    """The polynomial, lowest power first."""
    result = 0.0
    for c in reversed(coefficients):
        result = result * x + c
    return result


def steps(low, high, count=20000):
    """Equidistant points, both ends included."""
    return (low + (high - low) * i / count for i in range(count + 1))


# ---- what comments state -------------------------------------------------------------------------

def exp_units(c):
    """Error of the exp kernels in units in the last place, every step rounded to f32."""
    worst = 0.0
    for x in map(f32, steps(-87, 0)):
        n = round(f32(x * f32(1.44269504)))
        r = f32(f32(x - n * f32(0.693145752)) - n * f32(1.42860677e-6))
        p = c[-1]
        for k in reversed(c[2:-1]):
            p = f32(p * r + k)
        got = math.ldexp(f32(f32(f32(r * r) * p + r) + 1), n)
        unit = math.ldexp(1, math.frexp(math.exp(x))[1] - 24)
        worst = max(worst, abs(got - math.exp(x)) / unit)
    return worst


def relative_power(c):
    """Relative error as 2^r on [-0.5, 0.5]."""
    return max(abs(value(c, r) / 2**r - 1) for r in steps(-0.5, 0.5))


def relative_weight(c):
    """Relative error as 2^(m - 1) on [1, 2]."""
    return max(abs(value(c, m) / 2**(m - 1) - 1) for m in steps(1, 2))


def gelu_of_tail(c):
    """Error of GELU whose upper tail is 2^-c, for any x."""
    return max(abs(a * (2**-value(c, a) - tail(a))) for a in steps(0, 13))


def gelu_near(c):
    """Error of GELU whose upper tail is c, with a <= 3.8, for any x."""
    return max(abs(min(a, 3.8) * value(c, min(a, 3.8)) - a * tail(a)) for a in steps(0, 13))


def cuda_gelu(c):
    """Error of GELU whose upper tail is 2^c, for any x."""
    return max(abs(a * (2**value(c, a) - tail(a))) for a in steps(0, 13))


def cuda_gelu_f16(c):
    """The same over half a unit of the f16 result, where that is at least 0.001."""
    worst = 0.0
    for a in steps(0, 13):
        error = abs(a * (2**value(c, a) - tail(a)))
        for result in (a * tail(a), a - a * tail(a)):
            if result >= 0.001:
                worst = max(worst, error / math.ldexp(1, math.frexp(result)[1] - 12))
    return worst


LN2 = math.log(2)
FITS = [
    Fit("exp", [(AVX512, "emb_avx512_exp", "p"), (AVX2, "emb_avx2_exp", "p")], [1, 1], 6,
        math.exp, lambda r: math.exp(-r), (-LN2 / 2, LN2 / 2),
        [("within 1 unit in the last place", 1, exp_units)]),
    Fit("power", [(AVX512, "emb_avx512_power", "p")], [], 3,
        lambda r: 2**r, lambda r: 2**-r, (-0.5, 0.5), [("within 7.5e-5", 7.5e-5, relative_power)]),
    Fit("weight", [("src/backend/cpu/avx512/attention_dot.c", "weight_of", "p")], [], 2,
        lambda m: 2**(m - 1), lambda m: 2**(1 - m), (1, 2),
        [("within 1.8e-3", 1.8e-3, relative_weight)]),
    Fit("gelu", [(AVX512, "emb_avx512_gelu_tail", "g"), (AVX2, "emb_avx2_gelu_tail", "g")], [1], 8,
        lambda a: -math.log2(tail(a)), lambda a: LN2 * a * tail(a), (0, 8),
        [("1.4e-8", 1.4e-8, gelu_of_tail)]),
    Fit("gelu-power",
        [(AVX512, "emb_avx512_gelu_tail", "p"), (AVX2, "emb_avx2_gelu_tail", "p")], [1], 5,
        lambda r: 2**r, lambda r: 2**-r, (-0.5, 0.5), [("1.2e-7", 1.2e-7, relative_power)]),
    Fit("gelu-near", [(AVX512, "emb_avx512_gelu_near", "p")], [], 6,
        tail, lambda a: a, (0, 3.8), [("within 1.7e-4", 1.7e-4, gelu_near)]),
    # relative where the result is large against 0.01, absolute where it is small
    Fit("gelu-cuda", [("src/backend/cuda/kernels/device.cuh", "emb_gelu_tail", "p[i]")], [], 5,
        lambda a: math.log2(tail(a)), lambda a: a * tail(a) / (a * tail(a) + 0.01), (0, 8),
        [("at most 2.4e-6", 2.4e-6, cuda_gelu),
         ("below a third of f16's rounding", 1 / 3, cuda_gelu_f16)]),
]


# ---- the fit -------------------------------------------------------------------------------------

def solve(rows, right):
    """The solution of a square system, exactly."""
    count = len(rows)
    m = [[fractions.Fraction(v) for v in (*row, b)] for row, b in zip(rows, right)]
    for c in range(count):
        pivot = max(range(c, count), key=lambda r, c=c: abs(m[r][c]))
        m[c], m[pivot] = m[pivot], m[c]
        for r in range(count):
            if r != c and m[r][c]:
                factor = m[r][c] / m[c][c]
                m[r] = [x - factor * y for x, y in zip(m[r], m[c])]
    return [float(m[i][count] / m[i][i]) for i in range(count)]


def signed_weight(fit, x):
    """The weight; negative where the lowest fitted power is, so that errors alternate in sign."""
    return fit.weight(x) * (-1 if x < 0 and len(fit.fixed) % 2 else 1)


def weighted(fit, coefficients, x):
    """The weighted error."""
    return signed_weight(fit, x) * (value(coefficients, x) - fit.target(x))


def extremes(fit, coefficients, count):
    """The points where a run of errors of one sign is largest, `count` of them."""
    low, high = fit.interval
    points = [(low + high) / 2 - (high - low) / 2 * math.cos(math.pi * i / GRID)
              for i in range(GRID + 1)]
    errors = [weighted(fit, coefficients, x) for x in points]
    found = [0]
    for i, error in enumerate(errors):
        if (error > 0) != (errors[found[-1]] > 0):
            found.append(i)
        elif abs(error) > abs(errors[found[-1]]):
            found[-1] = i
    while len(found) > count:
        found.pop(0 if abs(errors[found[0]]) < abs(errors[found[-1]]) else -1)
    return [points[i] for i in found], max(map(abs, errors))


def remez(fit):
    """The coefficients, fixed ones included, and the largest weighted error."""
    powers = range(len(fit.fixed), fit.degree + 1)
    low, high = fit.interval
    count = len(powers) + 1
    nodes = [(low + high) / 2 - (high - low) / 2 * math.cos(math.pi * (i + 0.5) / count)
             for i in range(count)]
    for _ in range(30):
        rows = [[signed_weight(fit, x) * x**p for p in powers] + [(-1)**i]
                for i, x in enumerate(nodes)]
        right = [signed_weight(fit, x) * (fit.target(x) - value(fit.fixed, x)) for x in nodes]
        *fitted, level = solve(rows, right)
        coefficients = [*fit.fixed, *fitted]
        nodes, worst = extremes(fit, coefficients, count)
        if len(nodes) < count:
            sys.exit(f"minimax: {fit.name}: the errors do not alternate")
        if worst <= abs(level) * (1 + 1e-4):
            return coefficients, worst
    sys.exit(f"minimax: {fit.name}: the exchange does not end")


# ---- the source ----------------------------------------------------------------------------------

def parts(text, function):
    """The comment before a function, and its body."""
    begin = re.search(rf"^[^\n;]*\b{function}\([^;{{]*{{", text, re.M)
    if not begin:
        sys.exit(f"minimax: there is no function {function}")
    comment = text[text.rindex("/*", 0, begin.start()):begin.start()]
    return " ".join(comment.replace("\n *", " ").split()), text[begin.end():].split("\n}\n")[0]


def in_source(fit, place, text):
    """The coefficients of a place as f32, fixed ones included, and the comment before them."""
    _, function, variable = place
    comment, body = parts(text, function)
    found = []
    for assigned in re.findall(rf"(?<![\w.]){re.escape(variable)} = ([^;]*);", body):
        found += map(float, NUMBER.findall(assigned))
    count = fit.degree + 1 - len(fit.fixed)
    if len(found) < count:
        sys.exit(f"minimax: {function}: {len(found)} coefficients, not {count}")
    return [*fit.fixed, *map(f32, reversed(found[:count]))], comment


def judge(fit, place, text, best):
    """(line of measures, findings) of one place."""
    coefficients, comment = in_source(fit, place, text)
    worst = extremes(fit, coefficients, 1)[1]
    measures, findings = [f"weighted {worst:.3g}"], []
    if worst > best * SLACK:
        findings.append(f"weighted error {worst:.3g}, the fit's is {best:.3g}")
    if "tools/minimax.py" not in comment:
        findings.append("its comment does not name tools/minimax.py")
    for stated, bound, measure in fit.claims:
        got = measure(coefficients)
        measures.append(f"\"{stated}\": {got:.3g}")
        if got > bound:
            findings.append(f"\"{stated}\" is {got:.3g}")
        if stated not in comment:
            findings.append(f"its comment does not say \"{stated}\"")
    return ", ".join(measures), [f"{place[0]}: {place[1]}: {f}" for f in findings]


def main():
    """Prints fits and measures, or findings alone."""
    check = "--check" in sys.argv[1:]
    names = [a for a in sys.argv[1:] if a != "--check"]
    if set(names) - {f.name for f in FITS}:
        sys.exit(f"usage: minimax.py [--check] [{' | '.join(f.name for f in FITS)}]...")
    findings, places = [], 0
    for fit in (f for f in FITS if not names or f.name in names):
        coefficients, best = remez(fit)
        if not check:
            print(f"{fit.name}, lowest power first: "
                  + " ".join(f"{c:.9g}" for c in coefficients) + f": weighted {best:.3g}")
        for place in fit.places:
            measures, found = judge(fit, place, read(place[0]), best)
            if not check:
                print(f"  {place[1]} of {place[0]}: {measures}")
            findings += found
            places += 1
    print("\n".join([*findings, f"minimax: {places} polynomials, {len(findings)} findings"]))
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
