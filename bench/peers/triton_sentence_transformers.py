"""A Triton Python backend's model.py around sentence-transformers, as its users write it: the
texts of all requests of one call in one encode(). Model path and threads come as parameters.

SPDX-License-Identifier: Apache-2.0
"""
import numpy
import sentence_transformers
import torch
import triton_python_backend_utils as triton


class TritonPythonModel:
    """What the Python backend looks for in model.py."""

    def initialize(self, args):
        """Loads the model that config.pbtxt names."""
        import json
        parameters = json.loads(args["model_config"])["parameters"]
        torch.set_num_threads(1)
        self.model = sentence_transformers.SentenceTransformer(
            parameters["model"]["string_value"], device="cpu")

    def execute(self, requests):
        """Encodes all texts at once, and cuts the vectors apart."""
        texts, counts = [], []
        for request in requests:
            rows = triton.get_input_tensor_by_name(request, "TEXT").as_numpy().reshape(-1)
            texts += [row.decode() for row in rows]
            counts.append(len(rows))
        vectors = self.model.encode(texts, show_progress_bar=False)
        answers, first = [], 0
        for count in counts:
            part = numpy.ascontiguousarray(vectors[first:first + count])
            answers.append(triton.InferenceResponse([triton.Tensor("EMBEDDING", part)]))
            first += count
        return answers
