"""The adapters, each with the real package; skipped where that is absent.

SPDX-License-Identifier: Apache-2.0
"""
import asyncio
import copy
import enum
import importlib
import json
import pickle
import shutil
import subprocess
import sys

import embound
import numpy
import pytest
from conftest import TINY

TEXTS = ["a small test", "of the model", "with three texts"]


@pytest.fixture(scope="module")
def expected():
    return embound.SentenceTransformer(str(TINY)).encode(TEXTS)


def close(a, b):
    return numpy.allclose(numpy.asarray(a, dtype=numpy.float32), b, atol=1e-6)


SECRET = "hf_NOT_TO_BE_KEPT"


@pytest.fixture(scope="module")
def prompted(tmp_path_factory):
    """A model whose prompts for queries and documents differ."""
    folder = tmp_path_factory.mktemp("models") / "prompted"
    shutil.copytree(TINY, folder)
    with open(folder / "config_sentence_transformers.json", "w", encoding="utf-8") as file:
        json.dump({"prompts": {"query": "query: ", "document": "text: "}}, file)
    return str(folder)


@pytest.fixture(scope="module")
def roles(prompted):
    """The vectors of TEXTS as queries and as documents, which differ."""
    model = embound.SentenceTransformer(prompted)
    queries, documents = model.encode_query(TEXTS), model.encode_document(TEXTS)
    assert not numpy.allclose(queries, documents, atol=1e-3)
    return queries, documents


class Enumerated(enum.Enum):
    CPU = "cpu"


@pytest.mark.parametrize("adapter,module,package", [
    ("bertopic", "bertopic", "bertopic"), ("chroma", "chromadb", "chromadb"),
    ("haystack", "haystack", "haystack-ai"), ("keybert", "keybert", "keybert"),
    ("lancedb", "lancedb", "lancedb"), ("langchain", "langchain_core", "langchain-core"),
    ("llama_index", "llama_index", "llama-index-core")])
def test_without_the_package(adapter, module, package, monkeypatch):
    loaded = [name for name in sys.modules if name.split(".")[0] == module]
    for name in (*loaded, f"embound.integrations.{adapter}"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError, match=f"pip install {package}$"):
        importlib.import_module(f"embound.integrations.{adapter}")


def test_langchain(expected, prompted, roles):
    pytest.importorskip("langchain_core")
    from embound.integrations.langchain import EmboundEmbeddings
    from langchain_core.vectorstores import InMemoryVectorStore

    embeddings = EmboundEmbeddings(str(TINY), memory="4GiB")
    rows = embeddings.embed_documents(TEXTS)
    assert close(rows, expected) and isinstance(rows[0][0], float)
    assert close(embeddings.embed_query(TEXTS[1]), expected[1])
    assert close(asyncio.run(embeddings.aembed_documents(TEXTS)), expected)
    assert embeddings.embed_documents([]) == []
    store = InMemoryVectorStore.from_texts(TEXTS, embeddings)
    assert store.similarity_search(TEXTS[2], k=1)[0].page_content == TEXTS[2]
    # as HuggingFaceEmbeddings is called
    embeddings = EmboundEmbeddings(
        model_name=prompted, model_kwargs={"device": "cpu", "truncate_dim": 8},
        encode_kwargs={"normalize_embeddings": True},
        query_encode_kwargs={"prompt_name": "document"})
    document = roles[1][1][:8]
    assert close(embeddings.embed_documents(TEXTS)[1], document / numpy.linalg.norm(document))
    assert close(embeddings.embed_query(TEXTS[1]), document)
    with pytest.raises(embound.ArgumentError, match="nonsense"):
        EmboundEmbeddings(str(TINY), nonsense=3)
    with pytest.raises(embound.ArgumentError, match="device"):
        EmboundEmbeddings(str(TINY), device="cpu", model_kwargs={"device": "cpu"})
    with pytest.raises(embound.ArgumentError, match="memory"):
        EmboundEmbeddings(embound.SentenceTransformer(str(TINY)), memory="4GiB")


def test_llama_index(expected, prompted, roles):
    pytest.importorskip("llama_index.core")
    from embound.integrations.llama_index import EmboundEmbedding

    embedding = EmboundEmbedding(str(TINY), memory="4GiB", normalize=False)
    assert close(embedding.get_text_embedding_batch(TEXTS), expected)
    assert close(embedding.get_query_embedding(TEXTS[0]), expected[0])
    assert close(asyncio.run(embedding.aget_text_embedding(TEXTS[0])), expected[0])
    assert close(asyncio.run(embedding.aget_text_embedding_batch(TEXTS)), expected)
    assert embedding.model_name == str(TINY)
    embedding = EmboundEmbedding(model_name=prompted, normalize=False)
    assert close(embedding.get_query_embedding(TEXTS[0]), roles[0][0])
    assert close(embedding.get_text_embedding(TEXTS[0]), roles[1][0])
    embedding = EmboundEmbedding(str(TINY), query_instruction="query: ", text_instruction="text: ",
                                 max_length=7, normalize=False)
    assert close(embedding.get_query_embedding(TEXTS[0]), roles[0][0])
    assert embedding.to_dict()["options"]["max_seq_length"] == 7


def test_llama_index_is_kept_whole(expected):
    pytest.importorskip("llama_index.core")
    from embound.integrations.llama_index import EmboundEmbedding

    model = embound.SentenceTransformer(str(TINY), truncate_dim=8, device="cpu", dtype="bf16",
                                        prompts={"document": "text: "}, memory="4GiB")
    model.max_seq_length = 9
    for made in (EmboundEmbedding(model),
                 EmboundEmbedding(str(TINY), truncate_dim=8, device=Enumerated.CPU, token=SECRET,
                                  prompts={"document": "text: "}, dtype="bf16", memory="4GiB",
                                  max_length=9)):
        rows = made.get_text_embedding_batch(TEXTS)
        assert numpy.asarray(rows).shape == (3, 8)
        assert numpy.allclose(numpy.linalg.norm(rows, axis=1), 1, atol=1e-5)
        described = json.loads(json.dumps(made.to_dict()))
        assert SECRET not in str(described)
        for again in (EmboundEmbedding.from_dict(described), pickle.loads(pickle.dumps(made)),
                      copy.deepcopy(made)):
            assert again.get_text_embedding_batch(TEXTS) == rows
            assert again.to_dict() == described
    assert EmboundEmbedding(str(TINY)).to_dict() != EmboundEmbedding(
        str(TINY), truncate_dim=8).to_dict()
    with pytest.raises(embound.ArgumentError, match="nonsense"):
        EmboundEmbedding(str(TINY), nonsense=3)


def test_llama_index_caches_by_all_options():
    pytest.importorskip("llama_index.core")
    from embound.integrations.llama_index import EmboundEmbedding
    from llama_index.core.ingestion import IngestionCache, IngestionPipeline
    from llama_index.core.schema import Document

    cache = IngestionCache()
    for dim in (32, 8):
        embedding = EmboundEmbedding(str(TINY), truncate_dim=dim)
        nodes = IngestionPipeline(transformations=[embedding], cache=cache).run(
            documents=[Document(text=text, id_=text) for text in TEXTS])
        assert {len(node.embedding) for node in nodes} == {dim}


def test_haystack(expected, prompted, roles):
    pytest.importorskip("haystack")
    from embound.integrations.haystack import EmboundDocumentEmbedder, EmboundTextEmbedder
    from haystack import Document, Pipeline

    documents = [Document(content=text) for text in TEXTS]
    embedder = EmboundDocumentEmbedder(str(TINY), memory="4GiB")
    embedder.warm_up()
    rows = embedder.run(documents)["documents"]
    assert close([row.embedding for row in rows], expected)
    assert documents[0].embedding is None
    assert close(EmboundTextEmbedder(prompted).run(TEXTS[0])["embedding"], roles[0][0])
    documents = [Document(content=TEXTS[0], meta={"title": "text:", "year": None})]
    embedder = EmboundDocumentEmbedder(
        str(TINY), meta_fields_to_embed=["title", "year", "absent"], embedding_separator=" ")
    assert close(embedder.run(documents)["documents"][0].embedding, roles[1][0])
    embedder = EmboundDocumentEmbedder(str(TINY), prefix="text: ", suffix="", batch_size=1)
    assert close(embedder.run([Document(content=TEXTS[0])])["documents"][0].embedding, roles[1][0])
    pipeline = Pipeline()
    pipeline.add_component("embed", EmboundTextEmbedder(
        str(TINY), token=SECRET, device=Enumerated.CPU, prefix="query: ", truncate_dim=8,
        normalize_embeddings=True))
    kept = pipeline.dumps()
    assert SECRET not in kept
    again = Pipeline.loads(kept, allowed_modules=["embound.integrations.haystack"])
    row = roles[0][0][:8]
    assert close(again.run({"embed": {"text": TEXTS[0]}})["embed"]["embedding"],
                 row / numpy.linalg.norm(row))


def test_haystack_keeps_the_name_of_a_variable(monkeypatch):
    pytest.importorskip("haystack")
    from embound.integrations.haystack import EmboundTextEmbedder
    from haystack.utils import ComponentDevice, Secret

    monkeypatch.setenv("A_TOKEN", SECRET)
    embedder = EmboundTextEmbedder(str(TINY), token=Secret.from_env_var("A_TOKEN"),
                                   device=ComponentDevice.from_str("cpu"))
    described = embedder.to_dict()
    assert SECRET not in str(described) and "A_TOKEN" in str(described)
    assert EmboundTextEmbedder.from_dict(described).to_dict() == described


def test_haystack_says_at_once_what_is_wrong():
    pytest.importorskip("haystack")
    from embound.integrations.haystack import EmboundDocumentEmbedder, EmboundTextEmbedder

    for kind in (EmboundTextEmbedder, EmboundDocumentEmbedder):
        for options in ({"nonsense": 3}, {"device": "tpu"}, {"memory": "much"}, {"long": "cut"}):
            with pytest.raises(embound.EmboundError, match=next(iter(options))):
                kind(str(TINY), **options)
        with pytest.raises(embound.ArgumentError, match="nonsense"):
            kind("org/of-a-model-that-is-not-here", nonsense=3)
    elsewhere = EmboundTextEmbedder(str(TINY), device="cuda:15")  # described here, run there
    with pytest.raises(embound.EmboundError, match="cuda|GPU"):
        elsewhere.warm_up()
    with pytest.raises(TypeError, match="EmboundDocumentEmbedder"):
        EmboundTextEmbedder(str(TINY)).run(TEXTS)
    with pytest.raises(TypeError, match="EmboundTextEmbedder"):
        EmboundDocumentEmbedder(str(TINY)).run(TEXTS[0])


def test_chroma(expected, prompted, roles, tmp_path):
    chromadb = pytest.importorskip("chromadb")
    from embound.integrations.chroma import EmboundEmbeddingFunction

    function = EmboundEmbeddingFunction(str(TINY))
    assert close(function(TEXTS), expected)
    function = EmboundEmbeddingFunction(
        model_name=prompted, device=Enumerated.CPU, normalize_embeddings=True, token=SECRET,
        truncate_dim=8)
    again = EmboundEmbeddingFunction.build_from_config(json.loads(json.dumps(
        function.get_config())))
    assert again.get_config() == function.get_config()
    for one in (function, again):
        query, document = (rows[:, :8] / numpy.linalg.norm(rows[:, :8], axis=1, keepdims=True)
                           for rows in roles)
        assert close(one.embed_query(TEXTS), query) and close(one(TEXTS), document)
    client = chromadb.PersistentClient(str(tmp_path))
    collection = client.create_collection("texts", embedding_function=function)
    collection.add(ids=["0", "1", "2"], documents=TEXTS)
    assert collection.query(query_texts=[TEXTS[1]], n_results=1)["ids"] == [["1"]]
    assert not any(SECRET.encode() in path.read_bytes()
                   for path in tmp_path.rglob("*") if path.is_file())


def test_chroma_reopened(tmp_path):
    """By a program that imports the adapter alone; one that does not is told by Chroma."""
    chromadb = pytest.importorskip("chromadb")
    from embound.integrations.chroma import EmboundEmbeddingFunction

    collection = chromadb.PersistentClient(str(tmp_path)).create_collection(
        "texts", embedding_function=EmboundEmbeddingFunction(str(TINY)))
    collection.add(ids=["0", "1", "2"], documents=TEXTS)
    source = f"""
import chromadb
IMPORT
collection = chromadb.PersistentClient({str(tmp_path)!r}).get_collection("texts")
print(collection.query(query_texts=[{TEXTS[1]!r}], n_results=1)["ids"])
"""
    done = subprocess.run([sys.executable, "-c", source.replace(
        "IMPORT", "import embound.integrations.chroma")], text=True, capture_output=True,
        check=False)
    assert done.stdout.strip() == "[['1']]", done.stderr
    done = subprocess.run([sys.executable, "-c", source.replace("IMPORT", "")], text=True,
                          capture_output=True, check=False)
    assert done.returncode != 0 and "embound" in done.stderr


def test_lancedb(expected, prompted, roles, tmp_path):
    lancedb = pytest.importorskip("lancedb")
    import embound.integrations.lancedb  # registers the function
    from lancedb.embeddings import get_registry
    from lancedb.pydantic import LanceModel, Vector

    create = get_registry().get("embound").create
    function = create(name=str(TINY), memory="4GiB", normalize=False)
    assert close(function.generate_embeddings(TEXTS), expected)
    function = create(name=prompted, truncate_dim=8, device=Enumerated.CPU, max_seq_length=9,
                      prompts={"query": "query: "})
    assert function.ndims() == 8 and hash(function) == hash(function)
    query, document = (rows[:, :8] / numpy.linalg.norm(rows[:, :8], axis=1, keepdims=True)
                       for rows in roles)
    assert close(function.compute_query_embeddings(TEXTS[0]), query[:1])
    assert close(function.compute_source_embeddings(TEXTS), document)

    class Row(LanceModel):
        text: str = function.SourceField()
        vector: Vector(function.ndims()) = function.VectorField()

    table = lancedb.connect(str(tmp_path)).create_table("texts", schema=Row)
    table.add([{"text": text} for text in TEXTS])
    table = lancedb.connect(str(tmp_path)).open_table("texts")
    assert table.search(TEXTS[1]).limit(1).to_list()[0]["text"] == TEXTS[1]
    assert close([row["vector"] for row in table.to_arrow().to_pylist()], document)


def test_lancedb_refuses():
    pytest.importorskip("lancedb")
    import embound.integrations.lancedb  # registers the function
    from lancedb.embeddings import get_registry

    create = get_registry().get("embound").create
    with pytest.raises(ValueError, match="nonsense"):
        create(name=str(TINY), nonsense=3)
    with pytest.raises(ValueError, match="token"):
        create(name=str(TINY), token=SECRET)
    get_registry().set_var("a_token", SECRET)
    function = create(name=str(TINY), token="$var:a_token")
    assert function.ndims() == 32 and SECRET not in str(function.safe_model_dump())


@pytest.mark.parametrize("package", ["bertopic", "keybert"])
def test_backends(package, expected):
    pytest.importorskip(package)
    module = importlib.import_module(f"embound.integrations.{package}")

    class Wrapper:
        def encode(self, texts, **options):
            return expected[:len(texts)]

    for backend in (module.EmboundBackend(str(TINY), memory="4GiB"), module.EmboundBackend(
            embound.SentenceTransformer(str(TINY))), module.EmboundBackend(Wrapper())):
        assert close(backend.embed(TEXTS), expected)
    with pytest.raises(embound.ArgumentError, match="nonsense"):
        module.EmboundBackend(str(TINY), nonsense=3)
