"""Uses of encode and similarity as the documentation of sentence-transformers shows them.

Each is run twice, with PACKAGE as sentence_transformers and as embound; nothing else differs. The
texts are ours. `results` names the variables to compare.

SPDX-License-Identifier: Apache-2.0
"""

SNIPPETS = {
    "quickstart": ("embeddings similarities", """
from PACKAGE import SentenceTransformer
model = SentenceTransformer("all-MiniLM-L6-v2")
sentences = ["Rain falls on the harbour.", "It pours over the port.", "She tuned the old piano."]
embeddings = model.encode(sentences)
assert embeddings.shape == (3, 384)
similarities = model.similarity(embeddings, embeddings)
"""),
    "full_hub_name": ("embeddings", """
from PACKAGE import SentenceTransformer
model = SentenceTransformer("sentence-transformers/all-mpnet-base-v2")
embeddings = model.encode(["A kettle whistles.", "The train is late again."])
"""),
    "single_string": ("embedding", """
from PACKAGE import SentenceTransformer
model = SentenceTransformer("all-MiniLM-L6-v2")
embedding = model.encode("One short line")
assert embedding.shape == (384,)
"""),
    "loop_over_pairs": ("rows", """
from PACKAGE import SentenceTransformer
model = SentenceTransformer("all-MiniLM-L6-v2")
sentences = ["A fox crosses the road", "Bread bakes in the oven"]
rows = []
for sentence, embedding in zip(sentences, model.encode(sentences)):
    assert len(embedding) == 384
    rows.append(embedding)
"""),
    "two_lists": ("similarities", """
from PACKAGE import SentenceTransformer
model = SentenceTransformer("all-MiniLM-L6-v2")
sentences1 = ["The ferry left at noon", "A violin lies on the table"]
sentences2 = ["The boat departed at twelve", "Someone repairs a bicycle", "Snow covers the hill"]
embeddings1 = model.encode(sentences1)
embeddings2 = model.encode(sentences2)
similarities = model.similarity(embeddings1, embeddings2)
best = []
for i, one in enumerate(sentences1):
    for j, two in enumerate(sentences2):
        best.append(f"{one} - {two}: {similarities[i][j]:.4f}")
"""),
    "pairwise": ("scores", """
from PACKAGE import SentenceTransformer
model = SentenceTransformer("all-MiniLM-L6-v2")
a = model.encode(["Cats sleep all day", "He plants tomatoes"])
b = model.encode(["A cat naps for hours", "The stock market fell"])
scores = model.similarity_pairwise(a, b)
assert scores.shape == (2,)
"""),
    "similarity_constructor": ("similarities", """
from PACKAGE import SentenceTransformer, SimilarityFunction
model = SentenceTransformer("all-MiniLM-L6-v2", similarity_fn_name=SimilarityFunction.DOT_PRODUCT)
embeddings = model.encode(["Clouds gather", "The sky turns grey"])
similarities = model.similarity(embeddings, embeddings)
assert model.similarity_fn_name == "dot"
"""),
    "similarity_changed": ("euclidean manhattan", """
from PACKAGE import SentenceTransformer, SimilarityFunction
model = SentenceTransformer("all-MiniLM-L6-v2")
embeddings = model.encode(["He drinks coffee", "She drinks tea", "A bus stops"])
model.similarity_fn_name = SimilarityFunction.EUCLIDEAN
euclidean = model.similarity(embeddings, embeddings)
model.similarity_fn_name = "manhattan"
manhattan = model.similarity(embeddings, embeddings)
"""),
    "cos_sim_util": ("scores", """
from PACKAGE import SentenceTransformer, util
model = SentenceTransformer("all-MiniLM-L6-v2")
emb1 = model.encode("A man reads a newspaper")
emb2 = model.encode("Someone is reading the news")
scores = util.cos_sim(emb1, emb2)
"""),
    "tensors": ("embeddings", """
from PACKAGE import SentenceTransformer
import torch
model = SentenceTransformer("all-MiniLM-L6-v2")
embeddings = model.encode(["Stars shine", "The lamp is off"], convert_to_tensor=True)
assert isinstance(embeddings, torch.Tensor) and embeddings.dtype == torch.float32
"""),
    "semantic_search_topk": ("scores indices", """
from PACKAGE import SentenceTransformer
import torch
embedder = SentenceTransformer("all-MiniLM-L6-v2")
corpus = ["A man eats pasta.", "A girl carries a baby.", "A man rides a horse.",
          "A woman plays the cello.", "Two men push carts through the wood.",
          "A monkey beats a drum.", "A cheetah runs behind its prey."]
corpus_embeddings = embedder.encode(corpus, convert_to_tensor=True)
query_embedding = embedder.encode("Someone eats noodles", convert_to_tensor=True)
similarity_scores = embedder.similarity(query_embedding, corpus_embeddings)[0]
scores, indices = torch.topk(similarity_scores, k=5)
"""),
    "semantic_search_util": ("ids values", """
from PACKAGE import SentenceTransformer, util
model = SentenceTransformer("all-MiniLM-L6-v2")
corpus = model.encode(["Lakes freeze in winter", "Ice forms on ponds", "Cars need fuel",
                       "Dogs bark"])
queries = model.encode(["Frozen water", "A loud animal"])
hits = util.semantic_search(queries, corpus, top_k=2)
ids = [[hit["corpus_id"] for hit in one] for one in hits]
values = [[hit["score"] for hit in one] for one in hits]
"""),
    "retrieval_query_document": ("similarities", """
from PACKAGE import SentenceTransformer
model = SentenceTransformer("all-MiniLM-L6-v2")
query_embeddings = model.encode_query("Which planet is red?")
document_embeddings = model.encode_document(
    ["Venus is hot.", "Mars looks red from afar.", "Jupiter is the largest planet."])
similarities = model.similarity(query_embeddings, document_embeddings)
"""),
    "prompts_constructor": ("embeddings", """
from PACKAGE import SentenceTransformer
model = SentenceTransformer(
    "all-MiniLM-L6-v2",
    prompts={"classification": "Classify this text: ", "retrieval": "Find the text for: "},
    default_prompt_name="retrieval")
embeddings = model.encode("how do bees find home", prompt_name="classification")
"""),
    "prompt_default": ("default named plain", """
from PACKAGE import SentenceTransformer
model = SentenceTransformer("all-MiniLM-L6-v2", prompts={"retrieval": "Find the text for: "})
model.default_prompt_name = "retrieval"
default = model.encode("a way over the river")
named = model.encode("a way over the river", prompt_name="retrieval")
plain = model.encode("a way over the river", prompt="")
"""),
    "prompt_text": ("embeddings", """
from PACKAGE import SentenceTransformer
model = SentenceTransformer("all-MiniLM-L6-v2")
embeddings = model.encode(["what grows on trees", "tallest tower"], prompt="query: ")
"""),
    "max_seq_length": ("before after embeddings", """
from PACKAGE import SentenceTransformer
model = SentenceTransformer("all-MiniLM-L6-v2")
before = model.max_seq_length
model.max_seq_length = 64
after = model.max_seq_length
embeddings = model.encode("many words " * 60)
"""),
    "matryoshka_constructor": ("embeddings similarities", """
from PACKAGE import SentenceTransformer
model = SentenceTransformer("all-mpnet-base-v2", truncate_dim=64)
embeddings = model.encode(["The tower is tall", "It is a high building", "I like soup"])
assert embeddings.shape == (3, 64)
similarities = model.similarity(embeddings, embeddings)
"""),
    "matryoshka_context": ("embeddings", """
from PACKAGE import SentenceTransformer
model = SentenceTransformer("all-MiniLM-L6-v2")
with model.truncate_embeddings(truncate_dim=16):
    embeddings = model.encode(["hello over there", "good evening"])
assert embeddings.shape[-1] == 16
"""),
    "truncate_and_normalize": ("embeddings norms", """
from PACKAGE import SentenceTransformer
import numpy as np
model = SentenceTransformer("all-MiniLM-L6-v2")
embeddings = model.encode(["A", "B b", "C c c"], truncate_dim=100, normalize_embeddings=True)
norms = np.linalg.norm(embeddings, axis=1)
"""),
    "binary_precision": ("binary_embeddings", """
from PACKAGE import SentenceTransformer
model = SentenceTransformer("all-MiniLM-L6-v2")
binary_embeddings = model.encode(
    ["I am driving to the lake.", "It is a beautiful day."], precision="binary")
assert binary_embeddings.shape == (2, 48) and binary_embeddings.dtype == "int8"
"""),
    "quantize_binary": ("binary_embeddings", """
from PACKAGE import SentenceTransformer
from PACKAGE.util import quantize_embeddings
model = SentenceTransformer("all-MiniLM-L6-v2")
embeddings = model.encode(["Fish swim in the sea.", "Birds sit on a wire."])
binary_embeddings = quantize_embeddings(embeddings, precision="ubinary")
"""),
    "quantize_int8": ("int8_embeddings", """
from PACKAGE import SentenceTransformer
from PACKAGE.util import quantize_embeddings
model = SentenceTransformer("all-MiniLM-L6-v2")
calibration = model.encode([f"calibration text number {i}" for i in range(120)])
embeddings = model.encode(["Fish swim in the sea.", "Birds sit on a wire."])
int8_embeddings = quantize_embeddings(
    embeddings, precision="int8", calibration_embeddings=calibration)
assert int8_embeddings.dtype == "int8"
"""),
    "list_of_tensors": ("rows", """
from PACKAGE import SentenceTransformer
model = SentenceTransformer("all-MiniLM-L6-v2")
rows = model.encode(["one", "two words", "three words here"], convert_to_numpy=False)
assert isinstance(rows, list) and len(rows) == 3
"""),
    "batch_and_progress": ("embeddings", """
from PACKAGE import SentenceTransformer
model = SentenceTransformer("all-MiniLM-L6-v2", device="cpu")
embeddings = model.encode([f"text {i}" for i in range(70)], batch_size=16, show_progress_bar=True)
"""),
    "token_embeddings": ("rows", """
from PACKAGE import SentenceTransformer
model = SentenceTransformer("all-MiniLM-L6-v2", device="cpu")
token_embeddings = model.encode(["short", "rather longer than that"],
                                output_value="token_embeddings")
rows = [row for text in token_embeddings for row in text]
"""),
    "all_features": ("keys ids tokens sentence", """
from PACKAGE import SentenceTransformer
model = SentenceTransformer("all-MiniLM-L6-v2", device="cpu")
features = model.encode("all that the model gives", output_value=None)
keys = [len(key) for key in features]
ids = features["input_ids"]
tokens = features["token_embeddings"]
sentence = features["sentence_embedding"]
"""),
    "older_keyword": ("embeddings", """
from PACKAGE import SentenceTransformer
model = SentenceTransformer("paraphrase-MiniLM-L3-v2")
embeddings = model.encode(sentences=["an older spelling", "of the same call"])
"""),
    "dimension": ("dimension embeddings", """
from PACKAGE import SentenceTransformer
model = SentenceTransformer("all-MiniLM-L6-v2")
dimension = model.get_embedding_dimension()
embeddings = model.encode(["x"] * 3)
assert embeddings.shape == (3, dimension)
"""),
}
