"""Each package's embedder over embound: its adapter. `upstream` has the same functions over
sentence-transformers.

SPDX-License-Identifier: Apache-2.0
"""


def langchain_class():
    """A class of LangChain embeddings; the model's directory is its parameter ``model_name``."""
    from embound.integrations.langchain import EmboundEmbeddings

    return EmboundEmbeddings


def llama_index(directory):
    """A LlamaIndex embedding."""
    from embound.integrations.llama_index import EmboundEmbedding

    return EmboundEmbedding(model_name=directory)


def haystack(directory):
    """Haystack's components: of texts, and of documents with their title before the content."""
    from embound.integrations.haystack import EmboundDocumentEmbedder, EmboundTextEmbedder

    return (EmboundTextEmbedder(model=directory),
            EmboundDocumentEmbedder(model=directory, meta_fields_to_embed=["title"]))


def chroma(directory):
    """A Chroma embedding function."""
    from embound.integrations.chroma import EmboundEmbeddingFunction

    return EmboundEmbeddingFunction(model_name=directory)


def lancedb(directory):
    """A LanceDB embedding function."""
    import embound.integrations.lancedb  # registers the function
    from lancedb.embeddings import get_registry

    return get_registry().get("embound").create(name=directory)
