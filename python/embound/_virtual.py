"""How packages that ask are told that an embound model is a SentenceTransformer.

``isinstance(model, sentence_transformers.SentenceTransformer)`` is true: upstream's class is an
abstract base class (from 5.4 on), and embound's is registered with it as a virtual subclass at the
moment somebody asks, for then ``model.__class__`` is read. Nothing is imported for that. A
``torch.nn.Module`` it is not: torch would look for parameters in it.

SPDX-License-Identifier: Apache-2.0
"""
from __future__ import annotations

import sys
from abc import ABCMeta


class VirtualSubclass:
    """A subclass of sentence_transformers.SentenceTransformer, as soon as there is one."""

    @property
    def __class__(self) -> type:
        """``type(self)``, always."""
        upstream = sys.modules.get("sentence_transformers")
        theirs = getattr(upstream, "__dict__", {}).get("SentenceTransformer")
        if isinstance(theirs, ABCMeta) and not issubclass(VirtualSubclass, theirs):
            theirs.register(VirtualSubclass)
        return type(self)

    @__class__.setter
    def __class__(self, value: type) -> None:
        object.__dict__["__class__"].__set__(self, value)
