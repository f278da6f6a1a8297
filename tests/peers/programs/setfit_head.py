"""A classifier whose head is trained on the model's vectors. Needs: setfit

SPDX-License-Identifier: Apache-2.0
"""
import sys

from report import report
from sentence_transformers import SentenceTransformer
from setfit import SetFitModel
from sklearn.linear_model import LogisticRegression
from texts import LABELS, QUERIES, TEXTS

model = SentenceTransformer(sys.argv[1])
classifier = SetFitModel(model_body=model, model_head=LogisticRegression(random_state=0))
classifier.fit(TEXTS, LABELS, num_epochs=1)
report(labels=[int(label) for label in classifier.predict(QUERIES)],
       chances=[[float(x) for x in row] for row in classifier.predict_proba(QUERIES)],
       rows=classifier.encode(QUERIES).tolist())
