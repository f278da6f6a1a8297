"""LangChain's own tests for classes of embeddings. Needs: langchain-tests

SPDX-License-Identifier: Apache-2.0
"""
import sys

import pytest
from langchain_tests.integration_tests import EmbeddingsIntegrationTests
from langchain_tests.unit_tests import EmbeddingsUnitTests
from report import report
from upstream import langchain_class


class TestUnit(EmbeddingsUnitTests):
    """Without the network."""

    @property
    def embeddings_class(self):
        """What is tested."""
        return langchain_class()

    @property
    def embedding_model_params(self):
        """How it is made."""
        return {"model_name": sys.argv[1]}


class TestIntegration(EmbeddingsIntegrationTests):
    """With what would use the network elsewhere."""

    embeddings_class = TestUnit.embeddings_class
    embedding_model_params = TestUnit.embedding_model_params


class Outcomes:
    """Counts what pytest found."""

    def __init__(self):
        self.of = {}

    def pytest_runtest_logreport(self, report):
        """Called by pytest for each phase of each test."""
        if report.when == "call" or report.outcome != "passed":
            self.of[report.nodeid.rpartition("::")[2]] = report.outcome


if __name__ == "__main__":
    outcomes = Outcomes()
    pytest.main([__file__, "-q", "-p", "no:cacheprovider", "-p", "no:socket"], plugins=[outcomes])
    report(outcomes=outcomes.of, failed=[x for x, y in outcomes.of.items() if y == "failed"])
