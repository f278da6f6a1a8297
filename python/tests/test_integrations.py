"""The adapters, each with the real package; skipped where that is absent.

SPDX-License-Identifier: Apache-2.0
"""
import asyncio

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


def test_langchain(expected):
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


def test_llama_index(expected):
    pytest.importorskip("llama_index.core")
    from embound.integrations.llama_index import EmboundEmbedding

    embedding = EmboundEmbedding(str(TINY), memory="4GiB")
    assert close(embedding.get_text_embedding_batch(TEXTS), expected)
    assert close(embedding.get_query_embedding(TEXTS[0]), expected[0])
    assert close(asyncio.run(embedding.aget_text_embedding(TEXTS[0])), expected[0])
    assert embedding.model_name == str(TINY)


def test_haystack(expected):
    pytest.importorskip("haystack")
    from embound.integrations.haystack import EmboundDocumentEmbedder, EmboundTextEmbedder
    from haystack import Document, Pipeline

    documents = [Document(content=text) for text in TEXTS]
    embedder = EmboundDocumentEmbedder(str(TINY), memory="4GiB")
    embedder.warm_up()
    rows = embedder.run(documents)["documents"]
    assert close([row.embedding for row in rows], expected)
    assert documents[0].embedding is None
    pipeline = Pipeline()
    pipeline.add_component("embed", EmboundTextEmbedder(str(TINY)))
    again = Pipeline.loads(pipeline.dumps(),
                           allowed_modules=["embound.integrations.haystack"])
    assert close(again.run({"embed": {"text": TEXTS[0]}})["embed"]["embedding"], expected[0])


def test_chroma(expected):
    chromadb = pytest.importorskip("chromadb")
    from embound.integrations.chroma import EmboundEmbeddingFunction

    function = EmboundEmbeddingFunction(str(TINY))
    assert close(function(TEXTS), expected)
    again = EmboundEmbeddingFunction.build_from_config(function.get_config())
    assert close(again(TEXTS), expected)
    collection = chromadb.EphemeralClient().create_collection("texts", embedding_function=function)
    collection.add(ids=["0", "1", "2"], documents=TEXTS)
    assert collection.query(query_texts=[TEXTS[1]], n_results=1)["ids"] == [["1"]]


def test_lancedb(expected, tmp_path):
    lancedb = pytest.importorskip("lancedb")
    import embound.integrations.lancedb  # registers the function
    from lancedb.embeddings import get_registry
    from lancedb.pydantic import LanceModel, Vector

    function = get_registry().get("embound").create(name=str(TINY), memory="4GiB")
    assert close(function.generate_embeddings(TEXTS), expected)

    class Row(LanceModel):
        text: str = function.SourceField()
        vector: Vector(function.ndims()) = function.VectorField()

    table = lancedb.connect(str(tmp_path)).create_table("texts", schema=Row)
    table.add([{"text": text} for text in TEXTS])
    assert table.search(TEXTS[1]).limit(1).to_list()[0]["text"] == TEXTS[1]
