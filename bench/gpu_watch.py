#!/usr/bin/env python3
"""Polls NVML for what each process holds on the GPUs; a process of its own, so that it sees peaks.

Each line on standard input gives one JSON line and starts anew: {"processes": {PID: peak bytes},
"used": {GPU: [least, most] bytes in use by all}, "changes": [[seconds, PID, bytes]...], "polls": N,
"gap": longest time between two polls}. Seconds are CLOCK_MONOTONIC's. EMB_NVML names the library.

SPDX-License-Identifier: Apache-2.0
"""
import ctypes
import json
import os
import select
import sys
import time

UNKNOWN = (1 << 64) - 1
PROCESSES_MAX = 64
CHANGES_MAX = 2000
POLL_SECONDS = 0.004  # seldom enough not to hold up the driver's own work


class Process(ctypes.Structure):
    """nvmlProcessInfo_t."""
    _fields_ = [("pid", ctypes.c_uint), ("bytes", ctypes.c_ulonglong),
                ("gpu_instance", ctypes.c_uint), ("compute_instance", ctypes.c_uint)]


class Memory(ctypes.Structure):
    """nvmlMemory_t."""
    _fields_ = [("total", ctypes.c_ulonglong), ("free", ctypes.c_ulonglong),
                ("used", ctypes.c_ulonglong)]


class Nvml:
    """The GPUs of this machine; none if NVML is not there."""

    def __init__(self):
        self.devices = []
        try:
            self.library = ctypes.CDLL(os.environ.get("EMB_NVML") or "libnvidia-ml.so.1")
        except OSError as reason:
            self.reason = str(reason)
            return
        count = ctypes.c_uint()
        code = self.library.nvmlInit_v2() or \
            self.library.nvmlDeviceGetCount_v2(ctypes.byref(count))
        self.reason = f"NVML error {code}" if code else None
        for index in range(count.value):
            handle = ctypes.c_void_p()
            if self.library.nvmlDeviceGetHandleByIndex_v2(index, ctypes.byref(handle)) == 0:
                self.devices.append(handle)

    def used(self, device):
        """Bytes of a GPU in use by all; None if it does not say."""
        memory = Memory()
        code = self.library.nvmlDeviceGetMemoryInfo(device, ctypes.byref(memory))
        return None if code else memory.used

    def processes(self, device):
        """(PID, bytes) of the processes that compute on a GPU."""
        count, found = ctypes.c_uint(PROCESSES_MAX), (Process * PROCESSES_MAX)()
        if self.library.nvmlDeviceGetComputeRunningProcesses_v3(device, ctypes.byref(count), found):
            return []
        return [(p.pid, p.bytes) for p in found[:count.value] if p.bytes != UNKNOWN]


class Record:
    """What was seen since the last answer."""

    def __init__(self, held):
        self.held = held  # PID: bytes on all GPUs when last seen
        self.peaks, self.used, self.changes = dict(held), {}, []
        self.polls, self.gap, self.last = 0, 0.0, time.monotonic()

    def poll(self, nvml):
        """Looks once."""
        now = {}
        for index, device in enumerate(nvml.devices):
            used = nvml.used(device)
            if used is not None:
                least, most = self.used.get(index, (used, used))
                self.used[index] = (min(least, used), max(most, used))
            for pid, size in nvml.processes(device):
                now[pid] = now.get(pid, 0) + size
        at = time.monotonic()
        for pid in now.keys() | self.held.keys():
            if now.get(pid, 0) != self.held.get(pid, 0) and len(self.changes) < CHANGES_MAX:
                self.changes.append((at, pid, now.get(pid, 0)))
        for pid, size in now.items():
            self.peaks[pid] = max(self.peaks.get(pid, 0), size)
        self.held = now
        self.polls, self.gap, self.last = self.polls + 1, max(self.gap, at - self.last), at

    def answer(self, nvml):
        """As one JSON line."""
        print(json.dumps({"processes": self.peaks, "used": self.used, "changes": self.changes,
                          "polls": self.polls, "gap": round(self.gap, 4),
                          "devices": len(nvml.devices), "reason": nvml.reason}), flush=True)


def main():
    """Until standard input ends."""
    nvml = Nvml()
    record = Record({})
    while True:
        record.poll(nvml)
        if not select.select([sys.stdin], [], [], POLL_SECONDS)[0]:
            continue
        if not sys.stdin.readline():
            return
        record.poll(nvml)
        record.answer(nvml)
        record = Record(record.held)


if __name__ == "__main__":
    main()
