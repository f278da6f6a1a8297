"""Topics of texts, and those of new ones. Needs: bertopic

SPDX-License-Identifier: Apache-2.0
"""
import sys

from bertopic import BERTopic
from bertopic.representation import KeyBERTInspired
from report import report
from sentence_transformers import SentenceTransformer
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA
from texts import QUERIES, TEXTS

model = SentenceTransformer(sys.argv[1])
topic_model = BERTopic(
    embedding_model=model, umap_model=PCA(n_components=5, random_state=0),
    hdbscan_model=KMeans(n_clusters=3, random_state=0, n_init=10),
    representation_model=KeyBERTInspired(random_state=0), min_topic_size=5)
topics, _ = topic_model.fit_transform(TEXTS)
new, _ = topic_model.transform(QUERIES)
rows = topic_model.embedding_model.embed(TEXTS[:2])
report(topics=[int(topic) for topic in topics], new=[int(topic) for topic in new],
       words=[[word for word, _ in topic_model.get_topic(topic)] for topic in range(3)],
       rows=rows.tolist(), model=topic_model.embedding_model.embedding_model is model)
