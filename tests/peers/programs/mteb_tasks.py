"""Tasks of mteb on its made-up data. Needs: mteb

SPDX-License-Identifier: Apache-2.0
"""
import sys

import mteb
from mteb.mocks import mock_tasks
from report import report
from sentence_transformers import SentenceTransformer

NAMES = ("MockSTSTask", "MockClassificationTask", "LegacyMockClusteringFastTask",
         "MockBitextMiningTask", "MockPairClassificationTask", "MockRetrievalTask",
         "MockRerankingTask", "MockRegressionTask")

model = SentenceTransformer(sys.argv[1])
tasks = [getattr(mock_tasks, name)() for name in NAMES]
result = mteb.evaluate(model, tasks, cache=None, show_progress_bar=False)
report(scores={one.task_name: one.get_score() for one in result.task_results},
       count=len(result.task_results))
