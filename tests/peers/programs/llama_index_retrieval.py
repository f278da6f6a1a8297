"""An index, its retriever, and a splitter by meaning. Needs: llama-index-core

SPDX-License-Identifier: Apache-2.0
"""
import asyncio
import sys

from llama_index.core import Document, VectorStoreIndex
from llama_index.core.node_parser import SemanticSplitterNodeParser
from report import report
from texts import QUERIES, TEXTS
from upstream import llama_index

embedding = llama_index(sys.argv[1])
index = VectorStoreIndex.from_documents(
    [Document(text=text, id_=str(i)) for i, text in enumerate(TEXTS)], embed_model=embedding)
retriever = index.as_retriever(similarity_top_k=4)
found = [[(one.node.text, one.score) for one in retriever.retrieve(query)] for query in QUERIES]
later = asyncio.run(retriever.aretrieve(QUERIES[0]))
splitter = SemanticSplitterNodeParser(embed_model=embedding, buffer_size=1,
                                      breakpoint_percentile_threshold=85)
parts = splitter.get_nodes_from_documents([Document(text=" ".join(TEXTS))])
report(found=found, later=[one.node.text for one in later], parts=[part.text for part in parts])
