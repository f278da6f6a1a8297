"""A store of vectors and its retriever. Needs: langchain-core

SPDX-License-Identifier: Apache-2.0
"""
import asyncio
import sys

from langchain_core.vectorstores import InMemoryVectorStore
from report import report
from texts import QUERIES, TEXTS
from upstream import langchain_class

embeddings = langchain_class()(model_name=sys.argv[1])
store = InMemoryVectorStore.from_texts(TEXTS, embeddings)
found = [[(document.page_content, float(score)) for document, score in
          store.similarity_search_with_score(query, k=4)] for query in QUERIES]
retriever = store.as_retriever(search_type="mmr", search_kwargs={"k": 3})
diverse = [[document.page_content for document in retriever.invoke(query)] for query in QUERIES]
row = asyncio.run(embeddings.aembed_query(QUERIES[0]))
report(found=found, diverse=diverse, row=row)
