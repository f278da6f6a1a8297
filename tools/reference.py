"""What a vector should be: sentence-transformers for texts cut at the model's length, and a plain
implementation of the chunk mean for texts that are not. Used by make_golden, tests and benches.

Needs the environment of tools/oracle_env.sh; enter_oracle_env() re-runs a script inside it.

SPDX-License-Identifier: Apache-2.0"""
import os
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
SKIPPED = 77  # the exit status that the test runner counts as skipped


def oracle_python():
    """The interpreter of the oracle environment (EMB_ORACLE_VENV, else build/venv-oracle)."""
    venv = os.environ.get("EMB_ORACLE_VENV", os.path.join(ROOT, "build", "venv-oracle"))
    return os.path.join(venv, "bin", "python")


def enter_oracle_env():
    """Runs this script again inside the oracle environment, or exits as skipped without one."""
    python = oracle_python()
    if os.environ.get("EMB_IN_ORACLE_ENV") == python:
        return
    if not os.path.exists(python):
        print(f"skipped: {python} is missing; tools/oracle_env.sh makes it")
        sys.exit(SKIPPED)
    environment = dict(os.environ, EMB_IN_ORACLE_ENV=python, HF_HUB_OFFLINE="1",
                       TRANSFORMERS_OFFLINE="1", TRANSFORMERS_VERBOSITY="error",
                       HF_HUB_DISABLE_PROGRESS_BARS="1", TOKENIZERS_PARALLELISM="false")
    os.execve(python, [python, *sys.argv], environment)


class Reference:
    """One model under torch, in f32 on the CPU."""

    def __init__(self, folder, threads=2):
        import torch
        from sentence_transformers import SentenceTransformer
        from tokenizers import Tokenizer
        torch.set_num_threads(threads)
        self.torch = torch
        self.sentence_model = SentenceTransformer(folder, device="cpu",
                                                  model_kwargs={"dtype": torch.float32})
        self.encoder = self.sentence_model[0].auto_model.eval()
        self.window = self.sentence_model.max_seq_length
        self.normalizes = any(type(module).__name__ == "Normalize"
                              for module in self.sentence_model)
        self.tokenizer = Tokenizer.from_file(os.path.join(folder, "tokenizer.json"))
        self.tokenizer.no_truncation()
        self.tokenizer.no_padding()
        self.before, self.after = self.tokenizer.encode("").ids

    def ids(self, text):
        """Token ids without the special tokens around the text."""
        return self.tokenizer.encode(text, add_special_tokens=False).ids

    def encode_truncated(self, texts, batch=32):
        """What users of sentence-transformers get, [texts, dim]."""
        return self.sentence_model.encode(texts, batch_size=batch, convert_to_numpy=True)

    def encode_ids(self, ids, pooling="mean", normalize=None):
        """The vector of one sequence of ids (special tokens included), in f64."""
        with self.torch.inference_mode():
            hidden = self.encoder(input_ids=self.torch.tensor([ids])).last_hidden_state[0].double()
            vector = {"mean": lambda: hidden.mean(0), "cls": lambda: hidden[0],
                      "max": lambda: hidden.max(0).values}[pooling]()
            if self.normalizes if normalize is None else normalize:
                vector = vector / vector.norm().clamp_min(1e-12)
            return vector.numpy()

    def chunks(self, text, window=None):
        """Cuts a text into runs of at most `window` tokens, each wrapped in special tokens."""
        ids, step = self.ids(text), (window or self.window) - 2
        return [[self.before, *ids[start:start + step], self.after]
                for start in range(0, max(len(ids), 1), step)]

    def encode_chunked(self, text, window=None, pooling="mean", normalize=None):
        """The unweighted mean over a text's chunks, normalised again if the model normalises."""
        import numpy
        vectors = [self.encode_ids(ids, pooling, normalize) for ids in self.chunks(text, window)]
        mean = numpy.mean(numpy.array(vectors), axis=0)
        if len(vectors) > 1 and (self.normalizes if normalize is None else normalize):
            mean = mean / max(numpy.linalg.norm(mean), 1e-12)
        return mean
