"""A consumer of DLPack capsules, as small as can be: what a library that takes one does.

Layouts: the DLPack 1.0 specification.

SPDX-License-Identifier: Apache-2.0
"""
import ctypes

CPU, CUDA, FLOAT, IS_COPIED = 1, 2, 2, 2


class _Tensor(ctypes.Structure):
    _fields_ = [("data", ctypes.c_void_p), ("device_type", ctypes.c_int32),
                ("device_index", ctypes.c_int32), ("dimensions", ctypes.c_int32),
                ("code", ctypes.c_uint8), ("bits", ctypes.c_uint8), ("lanes", ctypes.c_uint16),
                ("shape", ctypes.POINTER(ctypes.c_int64)),
                ("strides", ctypes.POINTER(ctypes.c_int64)), ("byte_offset", ctypes.c_uint64)]


_DELETER = ctypes.CFUNCTYPE(None, ctypes.c_void_p)


class _Plain(ctypes.Structure):
    _fields_ = [("tensor", _Tensor), ("context", ctypes.c_void_p), ("deleter", _DELETER)]


class _Versioned(ctypes.Structure):
    _fields_ = [("major", ctypes.c_uint32), ("minor", ctypes.c_uint32),
                ("context", ctypes.c_void_p), ("deleter", _DELETER), ("flags", ctypes.c_uint64),
                ("tensor", _Tensor)]


_api = ctypes.pythonapi
_api.PyCapsule_GetName.restype = ctypes.c_char_p
_api.PyCapsule_GetName.argtypes = [ctypes.py_object]
_api.PyCapsule_GetPointer.restype = ctypes.c_void_p
_api.PyCapsule_GetPointer.argtypes = [ctypes.py_object, ctypes.c_char_p]
_api.PyCapsule_SetName.argtypes = [ctypes.py_object, ctypes.c_char_p]
_USED = {b"dltensor": b"used_dltensor", b"dltensor_versioned": b"used_dltensor_versioned"}


class Taken:
    """Takes a capsule over; ``drop`` calls the deleter, without the interpreter's lock."""

    def __init__(self, capsule):
        name = _api.PyCapsule_GetName(capsule)
        self._address = _api.PyCapsule_GetPointer(capsule, name)
        self.versioned = name == b"dltensor_versioned"
        kind = _Versioned if self.versioned else _Plain
        managed = kind.from_address(self._address)
        tensor = managed.tensor
        self.version = (managed.major, managed.minor) if self.versioned else None
        self.flags = managed.flags if self.versioned else 0
        self.address = tensor.data
        self.device = (tensor.device_type, tensor.device_index)
        self.type = (tensor.code, tensor.bits, tensor.lanes)
        self.shape = tuple(tensor.shape[i] for i in range(tensor.dimensions))
        self.strides = tuple(tensor.strides[i] for i in range(tensor.dimensions))
        self.offset = tensor.byte_offset
        self._deleter = managed.deleter
        _api.PyCapsule_SetName(capsule, _USED[name])

    def read(self):
        """The values' bytes, where this process can read the address."""
        count = 1
        for n in self.shape:
            count *= n
        return ctypes.string_at(self.address, count * 4) if count else b""

    def drop(self):
        """What a consumer does at the end."""
        self._deleter(self._address)
