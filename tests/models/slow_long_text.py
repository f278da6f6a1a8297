#!/usr/bin/env python3
"""One text of 20 MB, L6 in bf16, under 64 MiB: exit 0, a peak inside the budget, every token used.
Where the system lets us make a cgroup, the same run inside one limited to the budget: no kill.

SPDX-License-Identifier: Apache-2.0
"""
import json
import os
import pathlib
import subprocess
import tempfile

import real
from support import program

BUDGET_MIB = 64
GROUPS = pathlib.Path("/sys/fs/cgroup")


def make_group(limit_bytes):
    """A cgroup (version 2 or 1) with this memory limit, or None where that is refused."""
    unified = (GROUPS / "cgroup.controllers").exists()
    group = GROUPS / ("" if unified else "memory") / f"embound-{os.getpid()}"
    try:
        group.mkdir()
        limit = group / ("memory.max" if unified else "memory.limit_in_bytes")
        limit.write_text(str(limit_bytes))
        if unified:
            (group / "memory.swap.max").write_text("0")
    except OSError:
        if group.is_dir():
            group.rmdir()
        return None
    return group


def run_inside(group, command):
    """Runs a command inside a group; gives the process and the number of kills."""
    joined = ["sh", "-c", 'echo $$ > "$0" && exec "$@"', str(group / "cgroup.procs"), *command]
    done = subprocess.run(joined, capture_output=True, text=True, check=False,
                          stdin=subprocess.DEVNULL, timeout=real.LIMIT_SECONDS)
    kills = 0
    for name in ("memory.events", "memory.oom_control"):
        if (group / name).exists():
            fields = dict(line.split() for line in (group / name).read_text().splitlines())
            kills += int(fields.get("oom_kill", 0))
    group.rmdir()
    return done, kills


def main():
    """Outside, then inside a cgroup."""
    tally = program.Tally()
    found = (real.have(tally, real.DATA / "texts" / "abstracts.txt", program.PEAK)
             and real.models(tally, (real.L6,)))
    if not found:
        tally.end()
    with tempfile.TemporaryDirectory(prefix="embound-slow-") as place:
        scratch = pathlib.Path(place)
        (scratch / "text.txt").write_text(real.long_text(20_000_000) + "\n", encoding="utf-8")
        options = ["encode", found[0][1], "-i", scratch / "text.txt", "-o", scratch / "rows.npy",
                   "--dtype", "bf16", "--memory", f"{BUDGET_MIB}MiB", "--quiet", "--stats",
                   scratch / "stats.json"]
        done, peak, _ = program.run_with_peak(*options, timeout=real.LIMIT_SECONDS)
        if tally.expect(done.returncode == 0, f"exit {done.returncode}: {done.stderr}"):
            stats = json.loads((scratch / "stats.json").read_text())
            print(f"20 MB: {stats['tokens']} tokens in {stats['chunks']} chunks, "
                  f"{stats['seconds']:.0f} s, peak {peak / program.MIB:.2f} MiB")
            tally.expect(peak <= BUDGET_MIB * program.MIB, f"peak {peak}")
            tally.expect(stats["bytes_read"] >= 19_900_000, f"{stats['bytes_read']} bytes read")
            tally.expect(stats["tokens_dropped"] == 0, f"{stats['tokens_dropped']} tokens dropped")
        group = make_group(BUDGET_MIB * program.MIB)
        if group is None:
            tally.skip("the system does not let us make a cgroup")
        else:
            command = [str(part) for part in (program.PROGRAM, *options)]
            done, kills = run_inside(group, command)
            tally.expect(done.returncode == 0 and kills == 0,
                         f"in a cgroup: exit {done.returncode}, {kills} kills: {done.stderr}")
    tally.end()


if __name__ == "__main__":
    main()
