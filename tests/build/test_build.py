#!/usr/bin/env python3
"""What a machine without the tools meets: no CUDA compiler, one that does not work, no packages.
Each gets one line that says what is missing, and the next build is as if it had not been asked for.
And what is installed finds its parts.

SPDX-License-Identifier: Apache-2.0
"""
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests"))
from support import program  # noqa: E402

NO_NVCC = {"CUDACXX": "/nowhere/nvcc"}
BASICS = ("sh", "id", "find", "sort", "tr", "env")


def run(*command, env):
    """Finished, both outputs together."""
    return subprocess.run([str(part) for part in command], cwd=ROOT, text=True, check=False,
                          env={**os.environ, **env}, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, timeout=100)


def configure(folder, choice, **env):
    """(exit status, output, the summary that the build will print)."""
    done = run("cmake", "-S", ROOT, "-B", folder, f"-DEMB_CUDA={choice}", "-DEMB_BUILD_TESTS=OFF",
               env=env)
    made = folder / "CMakeFiles" / "embound_summary.dir" / "build.make"
    return done.returncode, " ".join(done.stdout.split()), made.read_text() if made.exists() else ""


def check_cuda(tally, scratch):
    """AUTO, ON and OFF one after another in one build folder."""
    code, output, _ = configure(scratch / "b", "ON", **NO_NVCC)
    tally.expect(code != 0 and "CUDACXX names /nowhere/nvcc" in output, f"ON: {code} {output}")
    code, output, summary = configure(scratch / "b", "OFF", **NO_NVCC)
    tally.expect(code == 0 and "EMB_CUDA is OFF" in summary, f"OFF: {code} {output} {summary}")
    code, output, summary = configure(scratch / "b", "AUTO", **NO_NVCC)
    tally.expect(code == 0 and "without the CUDA module" in summary and "/nowhere/nvcc" in summary,
                 f"AUTO: {code} {output} {summary}")
    broken = scratch / "nvcc"
    broken.write_text("#!/bin/sh\nexit 1\n")
    broken.chmod(0o755)
    code, output, summary = configure(scratch / "b", "AUTO", CUDACXX=str(broken))
    tally.expect(code == 0 and "does not compile here" in summary,
                 f"a broken nvcc: {code} {output} {summary}")
    done = run("make", "cuda", env=NO_NVCC)
    tally.expect(done.returncode != 0 and "CUDACXX names /nowhere/nvcc" in done.stdout
                 and len(done.stdout.splitlines()) <= 2, f"make cuda: {done.stdout}")


def check_packages(tally, scratch):
    """tools/deps.sh where there is nothing, and no apt-get to install it."""
    for name in BASICS:
        (scratch / name).symlink_to(shutil.which(name))
    for group, wanted in (("build", {"gcc", "make", "cmake", "python3"}),
                          ("test", {"gcc", "cmake", "g++", "git"}),
                          ("check", {"clang", "clang-format-14", "g++"}),
                          ("fuzz", {"clang", "libclang-rt-dev", "cmake"}),
                          ("models", {"python3", "python3-pip"}),
                          ("python", {"python3-venv", "python3-dev", "gcc"})):
        done = run("tools/deps.sh", group, env={"PATH": str(scratch)})
        words = set(done.stdout.replace("(", " ").replace(")", " ").split())
        tally.expect(done.returncode == 1 and wanted <= words and len(done.stdout.splitlines()) < 3,
                     f"deps {group}: {done.returncode} {done.stdout}")
    done = run("tools/deps.sh", "nonsense", env={})
    tally.expect(done.returncode == 64, f"deps nonsense: {done.returncode} {done.stdout}")


def check_installed(tally, scratch):
    """Wherever: the CUDA module is found beside the library, the library by pkg-config."""
    prefix = scratch / "pre fix"
    done = run("cmake", "--install", program.BUILD, "--prefix", prefix, env={})
    installed = next(prefix.rglob("libembound.so"), None)
    if not tally.expect(done.returncode == 0 and installed, f"install: {done.stdout}"):
        return
    if program.FAKE_MODULE.exists():
        shutil.copy(program.FAKE_MODULE, installed.parent / "libembound_cuda.so")
        gpu = {k: v for k, v in program.FAKE_GPU.items() if k != "EMB_CUDA_MODULE"}
        done = run(prefix / "bin" / "embound", "info", env={**gpu, "EMB_CUDA_MODULE": ""})
        tally.expect("cuda:0" in done.stdout, f"the module beside the library: {done.stdout}")
    described = (program.BUILD / "embound.pc").read_text()
    prefix_line = next(line for line in described.split("\n") if line.startswith("prefix="))
    tally.expect(prefix_line == "prefix=/usr" or "-Wl,-rpath,${libdir}" in described,
                 f"embound.pc: {described}")


def main():
    """In folders of their own; the build that is tested stays as it is."""
    tally = program.Tally()
    for check in (check_cuda, check_packages, check_installed):
        with tempfile.TemporaryDirectory(prefix="embound-build-") as folder:
            check(tally, pathlib.Path(folder))
    return tally.end()


if __name__ == "__main__":
    sys.exit(main())
