#!/usr/bin/env python3
"""One reference engine in a process of its own, for bench/peers/compare.py.

    peer.py onnxruntime|sentence-transformers MODEL WORK THREADS BATCH

WORK is a number of tokens (one text of ids) or a .jsonl file of texts (end to end, from strings,
sorted by length). For each number N read from standard input, does the work N times and prints the
N times in seconds and the process's peak bytes as one JSON line.

SPDX-License-Identifier: Apache-2.0
"""
import json
import os
import pathlib
import re
import sys
import time

ONNX = pathlib.Path(os.environ.get("EMB_ONNX", "build/peers"))


def peak_bytes():
    """VmHWM of this process."""
    status = pathlib.Path("/proc/self/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) * 1024


class OnnxRuntime:
    """Fused f32 graph; texts sorted by length, padded per batch."""

    def __init__(self, folder, threads):
        import onnxruntime
        from tokenizers import Tokenizer
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        # between runs its threads must not take time from the engine measured next
        options.add_session_config_entry("session.force_spinning_stop", "1")
        path = ONNX / (pathlib.Path(folder).name + ".onnx")
        self.session = onnxruntime.InferenceSession(str(path), options,
                                                    providers=["CPUExecutionProvider"])
        limit = json.loads((pathlib.Path(folder) / "sentence_bert_config.json").read_text())
        self.tokenizer = Tokenizer.from_file(str(pathlib.Path(folder) / "tokenizer.json"))
        self.tokenizer.no_padding()
        self.tokenizer.enable_truncation(limit["max_seq_length"])

    def run(self, ids, mask):
        """The vectors of one padded batch."""
        feed = {"input_ids": ids, "token_type_ids": ids * 0, "attention_mask": mask}
        return self.session.run(None, feed)[0]

    def encode(self, texts, batch):
        """[texts, dim], in order."""
        import numpy
        lists = [encoding.ids for encoding in self.tokenizer.encode_batch(texts)]
        order = sorted(range(len(texts)), key=lambda n: -len(lists[n]))
        rows = None
        for start in range(0, len(order), batch):
            part = order[start:start + batch]
            ids = numpy.zeros((len(part), len(lists[part[0]])), numpy.int32)
            mask = numpy.zeros_like(ids)
            for row, number in enumerate(part):
                ids[row, :len(lists[number])] = lists[number]
                mask[row, :len(lists[number])] = 1
            vectors = self.run(ids, mask)
            rows = numpy.empty((len(texts), vectors.shape[1]), "f") if rows is None else rows
            rows[part] = vectors
        return rows

    def one(self, tokens):
        """One text of ids."""
        import numpy
        ids = 1000 + numpy.arange(tokens, dtype=numpy.int32)[None] * 7919 % 20000
        mask = numpy.ones_like(ids)
        return lambda: self.run(ids, mask)


class SentenceTransformers:
    """What its users call; it sorts by length itself."""

    def __init__(self, folder, threads):
        import torch
        from sentence_transformers import SentenceTransformer
        torch.set_num_threads(threads)
        self.torch = torch
        self.model = SentenceTransformer(folder, device="cpu",
                                         model_kwargs={"dtype": torch.float32})

    def encode(self, texts, batch):
        """[texts, dim], in order."""
        return self.model.encode(texts, batch_size=batch)

    def one(self, tokens):
        """One text of ids, pooled and normalised."""
        ids = 1000 + self.torch.arange(tokens)[None] * 7919 % 20000
        mask = self.torch.ones_like(ids)

        def run():
            with self.torch.inference_mode():
                return self.model({"input_ids": ids, "attention_mask": mask})
        return run


ENGINES = {"onnxruntime": OnnxRuntime, "sentence-transformers": SentenceTransformers}


def main():
    """Answers until standard input ends."""
    name, folder, work, threads, batch = sys.argv[1:6]
    os.environ["TOKENIZERS_PARALLELISM"] = "true" if int(threads) > 1 else "false"
    os.environ["RAYON_NUM_THREADS"] = threads
    engine = ENGINES[name](folder, int(threads))
    if work.isdigit():
        run = engine.one(int(work))
        run()
    else:
        lines = pathlib.Path(work).read_text(encoding="utf-8").split("\n")
        texts = [json.loads(line)["text"] for line in lines if line]

        engine.encode(texts[:32], int(batch))

        def run():
            return engine.encode(texts, int(batch))
    for line in sys.stdin:
        seconds = []
        for _ in range(int(line)):
            began = time.perf_counter()
            run()
            seconds.append(time.perf_counter() - began)
        print(json.dumps({"seconds": seconds, "peak_bytes": peak_bytes()}), flush=True)


if __name__ == "__main__":
    main()
