#!/usr/bin/env python3
"""What runs where, on the fake device: the cells of matrix.tsv through library and command line.
(Those of the package: python/tests/test_matrix.py; of a real card: tools/gpu_accept.sh, matrix.)

SPDX-License-Identifier: Apache-2.0
"""
import contextlib
import io
import sys

import matrix
from matrix import program


def main():
    """Ends with the sums; shows the cells that are not as the table says."""
    if not program.FAKE_MODULE.exists() or not (program.BUILD / "tests/matrix_case").exists():
        print("the fake device is not built\n0 passed, 0 failed, 1 skipped")
        return 0
    with contextlib.redirect_stdout(io.StringIO()) as lines:
        passed, failed, skipped = matrix.main(["--fake", "--surfaces", "c,cli"])
    print("\n".join(line for line in lines.getvalue().splitlines() if '"passed": false' in line))
    print(f"{passed} passed, {failed} failed, {skipped} skipped")
    return failed > 0


if __name__ == "__main__":
    sys.exit(main())
