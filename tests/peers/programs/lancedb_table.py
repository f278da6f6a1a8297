"""A table on disk, asked, opened again and asked. Needs: lancedb

SPDX-License-Identifier: Apache-2.0
"""
import sys
import tempfile

import lancedb
from lancedb.pydantic import LanceModel, Vector
from report import report
from texts import QUERIES, TEXTS
from upstream import lancedb as make_function

function = make_function(sys.argv[1])


class Row(LanceModel):
    """A text and its vector."""

    text: str = function.SourceField()
    vector: Vector(function.ndims()) = function.VectorField()


def ask(table):
    """The nearest texts of each query, with their distances."""
    return [[(row["text"], row["_distance"]) for row in
             table.search(query).metric("cosine").limit(4).to_list()] for query in QUERIES]


with tempfile.TemporaryDirectory() as folder:
    table = lancedb.connect(folder).create_table("texts", schema=Row)
    table.add([{"text": text} for text in TEXTS])
    first = ask(table)
    again = ask(lancedb.connect(folder).open_table("texts"))
report(first=first, again=again, dim=function.ndims())
