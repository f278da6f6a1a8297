"""Adapters to other packages, each a module of its own that imports that package:

``embound.integrations.langchain``, ``.llama_index``, ``.haystack``, ``.chroma``, ``.lancedb``.

SPDX-License-Identifier: Apache-2.0
"""
