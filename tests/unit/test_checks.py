#!/usr/bin/env python3
"""The guards see what they guard against: arrows, long functions, recursion, banned calls.

SPDX-License-Identifier: Apache-2.0
"""
import contextlib
import io
import pathlib
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "tests"))
sys.path.insert(0, str(ROOT / "tools"))
import c_source  # noqa: E402
import check_layers  # noqa: E402
import check_style  # noqa: E402
import run_tests  # noqa: E402
from support import program  # noqa: E402

ARROWS = [  # file, quote, header, whether it may
    ("src/base/x.c", '"', "base/ledger.h", True), ("src/base/x.c", '"', "text/text.h", False),
    ("src/text/x.c", '"', "base/ledger.h", True), ("src/text/x.c", '"', "model/model.h", False),
    ("src/encoder/x.c", '"', "backend/backend.h", True),
    ("src/encoder/x.c", '"', "plan/plan.h", False), ("src/plan/x.c", '"', "engine/engine.h", False),
    ("src/plan/x.c", '"', "encoder/encoder.h", False),
    ("src/engine/x.c", '"', "plan/plan.h", True), ("src/engine/x.c", '"', "../base/file.h", False),
    ("src/base/x.c", "<", "zlib.h", False), ("src/base/x.c", "<", "pthread.h", True),
    ("src/plan/x.c", "<", "immintrin.h", False),
    ("src/backend/cpu/avx2/x.c", "<", "immintrin.h", True),
    ("apps/cli/x.c", '"', "embound.h", True), ("apps/cli/x.c", '"', "base/json.h", True),
    ("apps/cli/x.c", '"', "base/ledger.h", False), ("apps/sink/x.c", '"', "base/file.h", True),
    ("python/src/x.c", '"', "base/vector.h", True), ("python/src/x.c", '"', "base/json.h", False),
    ("bench/x.c", '"', "base/json.h", False),
]
CIRCLES = [  # what each needs, the groups that go round
    ({"a": "bc", "b": "c", "c": ""}, []),
    ({"a": "b", "b": "a", "c": "a"}, [("a", "b")]),
    ({"a": "b", "b": "c", "c": "a", "d": "e", "e": "d", "f": "ad"}, [("a", "b", "c"), ("d", "e")]),
]
IMPORTS = """
from typing import TYPE_CHECKING
import os
from .. import _core, _model
from . import _common
if TYPE_CHECKING:
    from .._errors import TextError
def later():
    from .._stream import texts
"""
GOOD = "/* x.c - job.\n *\n * SPDX-License-Identifier: Apache-2.0 */\n"


def findings(name, text):
    """What check_style prints about a C file of that text."""
    found, printed = check_style.Findings(), io.StringIO()
    with contextlib.redirect_stdout(printed):
        check_style.check_lines(name, text, found)
        check_style.check_head(name, text, found)
        check_style.check_c(name, text, found)
    return printed.getvalue()


def function(lines, body="    x();\n"):
    """A C function of that many lines."""
    return "static int\nf(int a) {\n" + body * (lines - 3) + "}\n"


def main():
    """One expectation for each guard."""
    tally = program.Tally()
    for name, quote, header, may in ARROWS:
        reason = check_layers.judge(name, check_layers.folder_of(name), quote, header)
        tally.expect((reason is None) == may, f"{name} includes {header}: {reason}")
    for graph, wanted in CIRCLES:
        got = check_layers.circles({node: set(needs) for node, needs in graph.items()})
        tally.expect(got == wanted, f"{graph}: circles {got}")
    got = check_layers.imported("python/embound/integrations/x.py", IMPORTS)
    tally.expect(got == {"python/embound/_model.py", "python/embound/_errors.py",
                         "python/embound/_stream.py", "python/embound/integrations/_common.py"},
                 f"imports {got}")
    tally.expect(check_layers.needs()["src/encoder"] == {"src/base", "src/model", "src/backend"},
                 "what the encoder includes")
    names = [f[:3] for f in c_source.functions(GOOD + function(5) + "int t[] = {1, 2};\n"
                                               + "struct s { int a; };\n" + function(4))]
    tally.expect(names == [("f", 4, 8), ("f", 11, 14)], f"functions found: {names}")
    cases = [(GOOD + function(70), ""), (GOOD + function(71), "71 lines"),
             (GOOD + function(5, "    f(a);\n"), "calls itself"),
             (GOOD + function(5, "    /* malloc(1) */ g(\"free(x)\");\n"), ""),
             (GOOD + function(5, "    malloc(1);\n"), "malloc() is banned"),
             (GOOD + function(5, "    if (a) printf(\"x\");\n"), "printf() is banned"),
             (GOOD + "/* TO" + "DO: later */\n", "unfinished"),
             (GOOD + "/* TO" + "DO(#12): later */\n", ""),
             (GOOD + "x" * 101 + "\n", "101 columns"), (GOOD + "x;\n" * 798, "800 lines"),
             ("int x;\n", "no SPDX"), ("/* " + "a\n" * 9 + "SPDX-License-Identifier: "
                                       "Apache-2.0 */\n", "head of 9 lines")]
    for text, wanted in cases:
        got = findings("src/plan/x.c", text)
        tally.expect(wanted in got if wanted else not got, f"wanted '{wanted}', got: {got}")
    counts = [("[  PASSED  ] 3 test(s).\n[  FAILED  ] 2 test(s), listed below:\n", 2, (3, 2, 0)),
              ("5 passed, 0 failed, 1 skipped\n", 0, (5, 0, 1)), ("", 0, (1, 0, 0)),
              ("5 passed, 0 failed, 1 skipped\n", -11, (5, 1, 1)), ("", 1, (0, 1, 0)),
              ("Ran 4 tests in 1s\n\nFAILED (failures=1, skipped=1)\n", 1, (2, 1, 1))]
    for output, code, wanted in counts:
        got = run_tests.read_counts(output, code)
        tally.expect(got == wanted, f"{output!r} and {code} count as {got}, not {wanted}")
    tally.end()


if __name__ == "__main__":
    main()
