#!/usr/bin/env python3
"""Writes a BERT sentence encoder as the fused ONNX graph on which onnxruntime is fastest, made of
the nodes that its transformer optimiser arrives at (EmbedLayerNormalization, Attention,
SkipLayerNormalization, BiasGelu), with mean pooling and normalisation after them. f32.

    bench/peers/make_onnx.py build/models/all-MiniLM-L6-v2 build/peers/all-MiniLM-L6-v2.onnx

SPDX-License-Identifier: Apache-2.0
"""
import argparse
import json
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "tools"))
import reference  # noqa: E402

FUSED = "com.microsoft"


class Graph:
    """Collects nodes and initialisers."""

    def __init__(self, tensors):
        self.tensors, self.nodes, self.initializers = tensors, [], {}

    def weight(self, name, value=None):
        """Adds a tensor of the model, or a value, once; gives its name."""
        import onnx.numpy_helper
        if name not in self.initializers:
            value = self.tensors[name] if value is None else value
            self.initializers[name] = onnx.numpy_helper.from_array(value, name)
        return name

    def node(self, op, inputs, output, domain="", **attributes):
        """Adds a node; gives its output (the first, if there are several)."""
        import onnx.helper
        outputs = [output] if isinstance(output, str) else output
        self.nodes.append(onnx.helper.make_node(op, inputs, outputs, domain=domain, **attributes))
        return outputs[0]

    def matmul(self, x, name, output):
        """x times the transposed weight; the bias is left to the node that follows."""
        import numpy
        weight = numpy.ascontiguousarray(self.tensors[f"{name}.weight"].T)
        return self.node("MatMul", [x, self.weight(f"{name}.weight", weight)], output)

    def norm(self, x, skip, name, bias, epsilon, output):
        """LayerNorm(x + bias + skip)."""
        inputs = [x, skip, self.weight(f"{name}.weight"), self.weight(f"{name}.bias"),
                  self.weight(bias)]
        return self.node("SkipLayerNormalization", inputs, output, FUSED, epsilon=epsilon)


def add_layer(graph, x, number, config):
    """One encoder layer."""
    import numpy
    place, out = f"encoder.layer.{number}", f"layer{number}."
    parts = [f"{place}.attention.self.{part}" for part in ("query", "key", "value")]
    qkv = numpy.concatenate([graph.tensors[f"{part}.weight"].T for part in parts], axis=1)
    bias = numpy.concatenate([graph.tensors[f"{part}.bias"] for part in parts])
    epsilon = config["layer_norm_eps"]
    mixed = graph.node("Attention", [x, graph.weight(f"{place}.qkv", numpy.ascontiguousarray(qkv)),
                                     graph.weight(f"{place}.qkv.bias", bias), "mask_index"],
                       out + "mixed", FUSED, num_heads=config["num_attention_heads"])
    dense = graph.matmul(mixed, f"{place}.attention.output.dense", out + "dense")
    x = graph.norm(dense, x, f"{place}.attention.output.LayerNorm",
                   f"{place}.attention.output.dense.bias", epsilon, out + "attention")
    wide = graph.matmul(x, f"{place}.intermediate.dense", out + "wide")
    active = graph.node("BiasGelu", [wide, graph.weight(f"{place}.intermediate.dense.bias")],
                        out + "active", FUSED)
    narrow = graph.matmul(active, f"{place}.output.dense", out + "narrow")
    return graph.norm(narrow, x, f"{place}.output.LayerNorm", f"{place}.output.dense.bias", epsilon,
                      out + "x")


def add_pooling(graph, x):
    """The mean over unmasked tokens, normalised."""
    import numpy
    import onnx
    axis = graph.weight("axis1", numpy.array([1], dtype=numpy.int64))
    last = graph.weight("axis2", numpy.array([2], dtype=numpy.int64))
    mask = graph.node("Cast", ["attention_mask"], "mask_f32", to=onnx.TensorProto.FLOAT)
    mask = graph.node("Unsqueeze", [mask, last], "mask_3d")
    masked = graph.node("Mul", [x, mask], "masked")
    total = graph.node("ReduceSum", [masked, axis], "total", keepdims=0)
    count = graph.node("ReduceSum", [mask, axis], "count", keepdims=0)
    mean = graph.node("Div", [total, count], "mean")
    graph.node("LpNormalization", [mean], "sentence_embedding", axis=1, p=2)


def build(folder):
    """Gives the model."""
    import onnx
    import safetensors.numpy
    config = json.loads((folder / "config.json").read_text())
    graph = Graph(safetensors.numpy.load_file(folder / "model.safetensors"))
    names = [f"embeddings.{part}.weight"
             for part in ("word_embeddings", "position_embeddings", "token_type_embeddings")]
    names += ["embeddings.LayerNorm.weight", "embeddings.LayerNorm.bias"]
    x = graph.node("EmbedLayerNormalization",
                   ["input_ids", "token_type_ids", *map(graph.weight, names), "attention_mask"],
                   ["x", "mask_index"], FUSED, epsilon=config["layer_norm_eps"])
    for number in range(config["num_hidden_layers"]):
        x = add_layer(graph, x, number, config)
    add_pooling(graph, x)
    ids = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.INT32, ["batch", "length"])
           for name in ("input_ids", "token_type_ids", "attention_mask")]
    row = onnx.helper.make_tensor_value_info("sentence_embedding", onnx.TensorProto.FLOAT,
                                             ["batch", config["hidden_size"]])
    made = onnx.helper.make_graph(graph.nodes, folder.name, ids, [row],
                                  list(graph.initializers.values()))
    sets = [onnx.helper.make_opsetid("", 17), onnx.helper.make_opsetid(FUSED, 1)]
    return onnx.helper.make_model(made, opset_imports=sets, ir_version=8)


def main():
    """One model."""
    reference.enter_oracle_env()
    import onnx
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=pathlib.Path)
    parser.add_argument("onnx", type=pathlib.Path)
    arguments = parser.parse_args()
    arguments.onnx.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(build(arguments.model), str(arguments.onnx))
    print(f"{arguments.onnx}: {arguments.onnx.stat().st_size} bytes")


if __name__ == "__main__":
    main()
