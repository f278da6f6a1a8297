"""The engines of bench/peers/table.py: each loads a model in its own fastest form and encodes
padded batches. Runs inside build/venv-peers (bench/cpu_peers.sh).

SPDX-License-Identifier: Apache-2.0
"""
import concurrent.futures
import json
import os
import pathlib

MADE = pathlib.Path(os.environ.get("EMB_ONNX", "build/peers"))
CALIBRATION_TEXTS = 300


def tokenizer_of(folder):
    """The model's tokenizer, cutting at the model's length, without padding."""
    from tokenizers import Tokenizer
    folder = pathlib.Path(folder)
    limit = json.loads((folder / "sentence_bert_config.json").read_text())["max_seq_length"]
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(limit)
    return tokenizer


def padded(lists):
    """Ids and mask of one batch."""
    import numpy
    ids = numpy.zeros((len(lists), max(map(len, lists))), numpy.int64)
    mask = numpy.zeros_like(ids)
    for row, values in enumerate(lists):
        ids[row, :len(values)] = values
        mask[row, :len(values)] = 1
    return ids, mask


def encode_on(lanes, texts, batch, by_length):
    """[texts, dim], in order: the lanes, engines of a kind, take the batches in turn."""
    import numpy
    lists = [encoding.ids for encoding in lanes[0].tokenizer.encode_batch(texts)]
    order = range(len(texts))
    if by_length:
        order = sorted(order, key=lambda n: -len(lists[n]))
    parts = iter([list(order[start:start + batch]) for start in range(0, len(order), batch)])
    done = []

    def work(lane):
        for part in parts:
            done.append((part, lane.run(*padded([lists[number] for number in part])).copy()))

    if len(lanes) == 1:
        work(lanes[0])
    else:
        with concurrent.futures.ThreadPoolExecutor(len(lanes)) as pool:
            list(pool.map(work, lanes))
    rows = numpy.empty((len(texts), done[0][1].shape[1]), "f")
    for part, vectors in done:
        rows[part] = vectors
    return rows


class Lanes:
    """Engines of a kind with a thread each."""

    def __init__(self, kind, folder, count):
        self.lanes = [kind(folder, 1) for _ in range(count)]

    def encode(self, texts, batch, by_length=True):
        """[texts, dim], in order."""
        return encode_on(self.lanes, texts, batch, by_length)


class Engine:
    """What they share: strings to vectors in batches, by length or as they come."""

    def __init__(self, folder, threads):
        self.folder, self.threads = pathlib.Path(folder), threads
        self.tokenizer = tokenizer_of(folder)
        self.load()

    def load(self):
        """Makes self ready to run."""
        raise NotImplementedError

    def run(self, ids, mask):
        """The vectors of one padded batch."""
        raise NotImplementedError

    def encode(self, texts, batch, by_length=True):
        """[texts, dim], in order."""
        return encode_on([self], texts, batch, by_length)

    def ids(self, texts, tokens):
        """A call that encodes so many texts of so many ids."""
        import numpy
        ids = 1000 + numpy.arange(tokens, dtype=numpy.int64)[None] * 7919 % 20000
        ids = numpy.repeat(ids, texts, 0)
        mask = numpy.ones_like(ids)
        return lambda: self.run(ids, mask)


class OnnxRuntime(Engine):
    """The fused f32 graph of make_onnx.py, or its weights in int8, a scale per channel."""

    dtype = "f32"

    def load(self):
        import onnxruntime
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self.threads
        # between runs its threads must not take time from the engine measured next
        options.add_session_config_entry("session.force_spinning_stop", "1")
        path = MADE / f"{self.folder.name}.onnx"
        if not path.exists():
            raise SystemExit("make_onnx.py makes no graph of this architecture")
        if self.dtype == "int8":
            path = self.quantized(path)
        self.session = onnxruntime.InferenceSession(str(path), options,
                                                    providers=["CPUExecutionProvider"])

    @staticmethod
    def quantized(path):
        """The graph with dynamic int8, made once."""
        out = path.with_suffix(".int8.onnx")
        if not out.exists():
            import onnx
            from onnxruntime.quantization import QuantType, quantize_dynamic
            quantize_dynamic(str(path), str(out), per_channel=True, weight_type=QuantType.QInt8,
                             op_types_to_quantize=["MatMul", "Attention"],
                             extra_options={"DefaultTensorType": onnx.TensorProto.FLOAT})
        return out

    def run(self, ids, mask):
        ids, mask = ids.astype("i4"), mask.astype("i4")
        feed = {"input_ids": ids, "token_type_ids": ids * 0, "attention_mask": mask}
        return self.session.run(None, feed)[0]


class OnnxRuntimeInt8(OnnxRuntime):
    """Weights in int8, activations with a scale per tensor."""

    dtype = "int8"


class OpenVino(Engine):
    """The model traced from torch, pooled and normalised inside; int8 by NNCF's static scales."""

    dtype = "f32"

    def load(self):
        import openvino
        core = openvino.Core()
        core.set_property("CPU", {"INFERENCE_NUM_THREADS": self.threads,
                                  "INFERENCE_PRECISION_HINT":
                                      "bf16" if self.dtype == "bf16" else "f32"})
        path = self.made(openvino, "f32")
        if self.dtype == "int8":
            path = self.made(openvino, "int8")
        self.model = core.compile_model(str(path), "CPU", {"PERFORMANCE_HINT": "LATENCY"})
        self.request = self.model.create_infer_request()

    def made(self, openvino, kind):
        """The file of one kind, made once."""
        out = MADE / f"{self.folder.name}.{kind}.xml"
        if not out.exists():
            model = self.traced(openvino) if kind == "f32" else self.quantized(openvino)
            openvino.save_model(model, str(out), compress_to_fp16=False)
        return out

    def traced(self, openvino):
        """The encoder, mean pooling and normalisation as one graph."""
        import torch
        from transformers import AutoModel

        class Pooled(torch.nn.Module):
            """Ids and mask to vectors."""

            def __init__(self, folder):
                super().__init__()
                self.encoder = AutoModel.from_pretrained(str(folder), dtype=torch.float32,
                                                         attn_implementation="eager")

            def forward(self, ids, mask):
                """One batch."""
                states = self.encoder(input_ids=ids, attention_mask=mask)[0]
                wide = mask.unsqueeze(-1).to(states.dtype)
                mean = (states * wide).sum(1) / wide.sum(1)
                return torch.nn.functional.normalize(mean, dim=1)

        example = {"ids": torch.full((2, 32), 1000), "mask": torch.ones(2, 32, dtype=torch.int64)}
        any_size = openvino.PartialShape([-1, -1])
        return openvino.convert_model(Pooled(self.folder).eval(), example_input=example,
                                      input=[("ids", any_size, openvino.Type.i64),
                                             ("mask", any_size, openvino.Type.i64)])

    def quantized(self, openvino):
        """Static int8 with SmoothQuant, calibrated on some of the texts."""
        import nncf
        model = openvino.Core().read_model(str(self.made(openvino, "f32")))
        source = pathlib.Path(os.environ["EMB_CALIBRATION"]).read_text(encoding="utf-8")
        lists = [self.tokenizer.encode(text).ids
                 for text in source.split("\n")[:CALIBRATION_TEXTS] if text]
        batches = [dict(zip(("ids", "mask"), padded([values]))) for values in lists]
        return nncf.quantize(model, nncf.Dataset(batches), model_type=nncf.ModelType.TRANSFORMER,
                             subset_size=len(batches))

    def run(self, ids, mask):
        self.request.infer({"ids": ids, "mask": mask})
        return self.request.get_output_tensor(0).data


class OpenVinoBf16(OpenVino):
    """Products in bf16."""

    dtype = "bf16"


class OpenVinoInt8(OpenVino):
    """Static int8."""

    dtype = "int8"


class CTranslate2(Engine):
    """The converted encoder; pooled here, which it does not do."""

    dtype = "float32"

    def load(self):
        import ctranslate2
        out = MADE / f"{self.folder.name}.ct2"
        if not out.exists():
            ctranslate2.converters.TransformersConverter(str(self.folder)).convert(str(out))
        self.encoder = ctranslate2.Encoder(str(out), compute_type=self.dtype,
                                           intra_threads=self.threads)
        self.view = ctranslate2.StorageView

    def run(self, ids, mask):
        import numpy
        lengths = mask.sum(1).astype("i4")
        states = self.encoder.forward_batch(self.view.from_array(ids.astype("i4")),
                                            self.view.from_array(lengths)).last_hidden_state
        wide = mask[:, :, None].astype("f")
        rows = (numpy.array(states) * wide).sum(1) / lengths[:, None]
        return rows / numpy.linalg.norm(rows, axis=1, keepdims=True)


class CTranslate2Int8(CTranslate2):
    """Weights and activations in int8, a scale per token."""

    dtype = "int8"


class SentenceTransformers(Engine):
    """What most users call; it sorts by length itself."""

    dtype = "float32"

    def load(self):
        import torch
        from sentence_transformers import SentenceTransformer
        torch.set_num_threads(self.threads)
        self.torch = torch
        self.model = SentenceTransformer(str(self.folder), device="cpu",
                                         model_kwargs={"dtype": getattr(torch, self.dtype)})

    def encode(self, texts, batch, by_length=True):
        return self.model.encode(texts, batch_size=batch)

    def run(self, ids, mask):
        with self.torch.inference_mode():
            ids, mask = self.torch.from_numpy(ids), self.torch.from_numpy(mask)
            made = self.model({"input_ids": ids, "attention_mask": mask})
            return made["sentence_embedding"].float().numpy()


class SentenceTransformersBf16(SentenceTransformers):
    """The same in bf16."""

    dtype = "bfloat16"


class LlamaCpp(Engine):
    """Needs a GGUF file of the model, which only its own repository's script makes."""

    def load(self):
        import llama_cpp  # noqa: F401
        raise SystemExit("installed, but makes no GGUF file of a model by itself")


ENGINES = {"sentence-transformers f32": SentenceTransformers,
           "sentence-transformers bf16": SentenceTransformersBf16,
           "onnxruntime f32": OnnxRuntime,
           "onnxruntime int8": OnnxRuntimeInt8,
           "OpenVINO f32": OpenVino,
           "OpenVINO bf16": OpenVinoBf16,
           "OpenVINO int8": OpenVinoInt8,
           "CTranslate2 f32": CTranslate2,
           "CTranslate2 int8": CTranslate2Int8,
           "llama.cpp": LlamaCpp}
PACKAGES = {"OpenVINO f32": ["openvino"], "OpenVINO bf16": ["openvino"],
            "OpenVINO int8": ["openvino", "nncf"], "CTranslate2 f32": ["ctranslate2"],
            "CTranslate2 int8": ["ctranslate2"], "llama.cpp": ["llama-cpp-python"]}
