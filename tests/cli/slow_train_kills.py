#!/usr/bin/env python3
"""train --checkpoint, --resume: trainings that are killed a hundred times in all, at random
instants, each ending with the bits of one that was not.

SPDX-License-Identifier: Apache-2.0
"""
import pathlib
import tempfile

from common import program, ready
from test_train import groups, write
from test_train_resume import check_killed

KILLS = 100


def main():
    """As many trainings as it takes."""
    tally, kills, seed = program.Tally(), 0, 0
    while ready(tally) and kills < KILLS and not tally.failed:
        with tempfile.TemporaryDirectory() as name:
            folder = pathlib.Path(name)
            source = write(folder / "groups.csv", groups(60, 2), ["anchor", "positive"])
            kills += check_killed(tally, folder, source, seed := seed + 1)
    print(f"{kills} kills, {seed} trainings")
    tally.end()


if __name__ == "__main__":
    main()
