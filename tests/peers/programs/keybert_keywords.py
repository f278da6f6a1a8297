"""Keywords of texts. Needs: keybert

SPDX-License-Identifier: Apache-2.0
"""
import sys

from keybert import KeyBERT
from report import report
from sentence_transformers import SentenceTransformer
from texts import SUBJECTS

documents = [" ".join(texts) for texts in SUBJECTS.values()]
model = SentenceTransformer(sys.argv[1])
keybert = KeyBERT(model=model)
plain = keybert.extract_keywords(documents, top_n=5)
diverse = keybert.extract_keywords(documents[0], keyphrase_ngram_range=(1, 2), use_mmr=True,
                                   diversity=0.5, top_n=5)
report(plain=plain, diverse=diverse, model=keybert.model.embedding_model is model)
