#!/usr/bin/env python3
"""Turns a BERT encoder in an .onnx file into a .safetensors file, with the standard library alone.

Exporters keep the names of biases, norms and embeddings, but fold each linear weight into an
anonymous, transposed MatMul operand. It is found again as the MatMul that feeds the Add of its
bias. Reads only the four protobuf messages this needs.

SPDX-License-Identifier: Apache-2.0"""
import argparse
import array
import json
import os
import struct
import sys

ONNX_FLOAT = 1  # TensorProto.DataType


class ConvertError(Exception):
    """The file is not what this tool can convert; the message says where."""


def read_varint(data, at):
    value = shift = 0
    while True:
        if at >= len(data):
            raise ConvertError("the file is cut inside a number")
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
        if shift > 63:
            raise ConvertError(f"a number at byte {at} of a message has more than 64 bits")


def fields(data):
    """Gives (field number, value) of one protobuf message; bytes fields as memoryviews."""
    at = 0
    while at < len(data):
        key, at = read_varint(data, at)
        number, wire = key >> 3, key & 7
        if wire == 0:
            value, at = read_varint(data, at)
        elif wire in (1, 5):
            size = 8 if wire == 1 else 4
            value, at = data[at:at + size], at + size
        elif wire == 2:
            size, at = read_varint(data, at)
            if at + size > len(data):
                raise ConvertError(f"field {number} runs past the end of its message")
            value, at = data[at:at + size], at + size
        else:
            raise ConvertError(f"field {number} has wire type {wire}")
        yield number, value


def text(value):
    return bytes(value).decode("utf-8")


def read_dims(value):
    if isinstance(value, int):
        return [value]
    dims, at = [], 0
    while at < len(value):
        dim, at = read_varint(value, at)
        dims.append(dim)
    return dims


def read_tensor(message):
    """Gives (name, shape, little-endian f32 bytes or None) of a TensorProto."""
    name, dims, kind, raw, floats = "", [], 0, None, b""
    for number, value in fields(message):
        if number == 1:
            dims += read_dims(value)
        elif number == 2:
            kind = value
        elif number == 4:
            floats += bytes(value)
        elif number == 8:
            name = text(value)
        elif number == 9:
            raw = value
        elif number == 13:
            raise ConvertError(f"tensor {name}: external data is not supported")
    if kind != ONNX_FLOAT:
        return name, dims, None
    values = raw if raw is not None else memoryview(floats)
    count = 1
    for dim in dims:
        count *= dim
    if len(values) != 4 * count:
        raise ConvertError(f"tensor {name}: {len(values)} bytes for shape {dims}")
    return name, dims, values


def read_node(message):
    node = {"inputs": [], "outputs": [], "op": ""}
    for number, value in fields(message):
        if number == 1:
            node["inputs"].append(text(value))
        elif number == 2:
            node["outputs"].append(text(value))
        elif number == 4:
            node["op"] = text(value)
    return node


def read_graph(data):
    """Gives (nodes, tensors by name) of an onnx ModelProto."""
    nodes, tensors = [], {}
    for number, graph in fields(data):
        if number != 7:
            continue
        for part, message in fields(graph):
            if part == 1:
                nodes.append(read_node(message))
            elif part == 5:
                name, dims, values = read_tensor(message)
                if values is not None:
                    tensors[name] = (dims, values)
    if not nodes:
        raise ConvertError("no graph in the file: is it an .onnx file?")
    return nodes, tensors


def transpose(dims, values):
    rows, cols = dims
    source = array.array("f", bytes(values))
    out = array.array("f")
    for col in range(cols):
        out.extend(source[col::cols])
    return [cols, rows], out.tobytes()


def find_weights(nodes, tensors):
    """Gives the transposed MatMul operand of every `*.bias` added to a MatMul."""
    made_by = {output: node for node in nodes for output in node["outputs"]}
    found = {}
    for node in nodes:
        if node["op"] != "Add":
            continue
        for bias in node["inputs"]:
            if bias not in tensors or not bias.endswith(".bias"):
                continue
            (other,) = [name for name in node["inputs"] if name != bias]
            product = made_by.get(other)
            if product is None or product["op"] != "MatMul":
                continue
            operands = [name for name in product["inputs"] if name in tensors]
            if len(operands) == 1 and len(tensors[operands[0]][0]) == 2:
                found[bias[:-len("bias")] + "weight"] = transpose(*tensors[operands[0]])
    return found


def strip_prefix(name):
    """Cuts what stands before "embeddings." or "encoder.", such as "model.0.auto_model."."""
    starts = [name.find(part) for part in ("embeddings.", "encoder.layer.")]
    return name[max(starts):] if max(starts) >= 0 else name


def collect(nodes, tensors):
    named = {name: (dims, bytes(values)) for name, (dims, values) in tensors.items()
             if "embeddings." in name or ("encoder.layer." in name and "MatMul" not in name)}
    named.update(find_weights(nodes, tensors))
    return {strip_prefix(name): entry for name, entry in named.items()}


def check(tensors):
    layers = 1 + max((int(name.split(".")[2]) for name in tensors
                      if name.startswith("encoder.layer.")), default=-1)
    parts = ["attention.self.query", "attention.self.key", "attention.self.value",
             "attention.output.dense", "attention.output.LayerNorm", "intermediate.dense",
             "output.dense", "output.LayerNorm"]
    wanted = [f"embeddings.{part}.weight" for part in
              ("word_embeddings", "position_embeddings", "token_type_embeddings", "LayerNorm")]
    wanted += ["embeddings.LayerNorm.bias"]
    wanted += [f"encoder.layer.{layer}.{part}.{kind}" for layer in range(layers)
               for part in parts for kind in ("weight", "bias")]
    missing = [name for name in wanted if name not in tensors]
    if layers == 0 or missing:
        raise ConvertError(f"{layers} layers found; missing: {', '.join(missing) or 'all layers'}")
    return layers


def write_safetensors(path, tensors):
    header, offset = {"__metadata__": {"format": "pt"}}, 0
    for name in sorted(tensors):
        dims, values = tensors[name]
        end = offset + len(values)
        header[name] = {"dtype": "F32", "shape": dims, "data_offsets": [offset, end]}
        offset = end
    encoded = json.dumps(header, separators=(",", ":")).encode()
    encoded += b" " * (-len(encoded) % 8)
    temporary = path + ".part"
    with open(temporary, "wb") as file:
        file.write(struct.pack("<Q", len(encoded)) + encoded)
        for name in sorted(tensors):
            file.write(tensors[name][1])
    os.replace(temporary, path)


def convert(onnx_path, safetensors_path):
    """Gives the number of layers and of tensors written."""
    if sys.byteorder != "little":
        raise ConvertError("this tool needs a little-endian machine")
    with open(onnx_path, "rb") as file:
        data = memoryview(file.read())
    tensors = collect(*read_graph(data))
    layers = check(tensors)
    write_safetensors(safetensors_path, tensors)
    return layers, len(tensors)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("onnx")
    parser.add_argument("safetensors")
    arguments = parser.parse_args()
    try:
        layers, count = convert(arguments.onnx, arguments.safetensors)
    except (ConvertError, OSError, UnicodeDecodeError) as error:
        sys.exit(f"convert_onnx: {arguments.onnx}: {error}")
    print(f"{arguments.safetensors}: {layers} layers, {count} tensors")


if __name__ == "__main__":
    main()
