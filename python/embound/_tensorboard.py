"""Event files of TensorBoard: scalars as records of protocol buffers, each with its checksums.

A record is its length, a checksum of that, a message Event and a checksum of that (TFRecord); the
checksums are CRC-32C, rotated and shifted as LevelDB does.

SPDX-License-Identifier: Apache-2.0
"""
from __future__ import annotations

import os
import socket
import struct
import time
from collections.abc import Mapping
from typing import BinaryIO

_POLYNOMIAL = 0x82F63B78  # Castagnoli's, reversed


def _make_table() -> tuple[int, ...]:
    table = []
    for value in range(256):
        for _ in range(8):
            value = value >> 1 ^ (_POLYNOMIAL if value & 1 else 0)
        table.append(value)
    return tuple(table)


_TABLE = _make_table()


def masked_crc(data: bytes) -> int:
    """CRC-32C as TFRecord stores it."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = _TABLE[(crc ^ byte) & 0xFF] ^ crc >> 8
    crc ^= 0xFFFFFFFF
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def record(data: bytes) -> bytes:
    """A TFRecord."""
    length = struct.pack("<Q", len(data))
    return (length + struct.pack("<I", masked_crc(length)) + data
            + struct.pack("<I", masked_crc(data)))


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


def _field(number: int, kind: int, data: bytes) -> bytes:
    """A field of a message: kind 0 is a varint, 1 and 5 are 8 and 4 bytes, 2 has a length."""
    return _varint(number << 3 | kind) + (_varint(len(data)) if kind == 2 else b"") + data


def _event(body: bytes) -> bytes:
    """Event: wall_time is field 1."""
    return record(_field(1, 1, struct.pack("<d", time.time())) + body)


class EventFile:
    """A new file of events in a directory, which is made."""

    def __init__(self, directory: str) -> None:
        os.makedirs(directory, exist_ok=True)
        name = f"events.out.tfevents.{time.time():.6f}.{socket.gethostname()}.{os.getpid()}"
        self._file: BinaryIO = open(os.path.join(directory, name), "wb")
        self._file.write(_event(_field(3, 2, b"brain.Event:2")))  # file_version

    def add(self, scalars: Mapping[str, float], step: int) -> None:
        """Event: step is field 2, summary 5; of its values tag is 1, simple_value 2."""
        values = b"".join(
            _field(1, 2, _field(1, 2, tag.encode()) + _field(2, 5, struct.pack("<f", value)))
            for tag, value in scalars.items())
        self._file.write(_event(_field(2, 0, _varint(step)) + _field(5, 2, values)))
        self._file.flush()

    def close(self) -> None:
        """Ends the file."""
        self._file.close()
