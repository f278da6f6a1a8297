"""Adapters to other packages, each a module of its own that imports that package:

``embound.integrations.langchain``, ``.llama_index``, ``.haystack``, ``.chroma``, ``.lancedb``,
``.bertopic``, ``.keybert``. Parameters and defaults are those of the class that each replaces
(docs/migration.md names it); options of embound come beside them.

SPDX-License-Identifier: Apache-2.0
"""
