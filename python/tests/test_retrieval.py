"""Search among vectors, pairs and communities: against all scores, and against upstream.

SPDX-License-Identifier: Apache-2.0
"""
import subprocess
import sys
import tracemalloc

import numpy
import pytest
from embound import ArgumentError, util


@pytest.fixture(scope="module")
def generator():
    return numpy.random.default_rng(1)


def vectors(generator, count, dim=16, kinds=None):
    """Random ones; of few kinds, so that many scores are equal."""
    rows = generator.standard_normal((kinds or count, dim)).astype(numpy.float32)
    return rows if kinds is None else rows[generator.integers(0, kinds, count)]


def all_scores(queries, corpus):
    """The best of each query: places by falling score, equal ones ascending."""
    scores = queries @ corpus.T
    return scores, numpy.lexsort((numpy.broadcast_to(numpy.arange(len(corpus)), scores.shape),
                                  -scores), axis=1)


def places(hits):
    return [[hit["corpus_id"] for hit in one] for one in hits]


@pytest.mark.parametrize("count", [1, 10, 200, 5000])
@pytest.mark.parametrize("kinds", [None, 3, 1])
@pytest.mark.parametrize("function", ["dot_score", "own"])
def test_the_best_and_ties(generator, count, kinds, function):
    """Whole numbers, whose scores are exact in any order of summing."""
    queries = numpy.rint(vectors(generator, 7) * 4)
    corpus = numpy.rint(vectors(generator, 3000, kinds=kinds) * 4)
    scores, order = all_scores(queries, corpus)
    score = util.dot_score if function == "dot_score" else lambda a, b: util.dot_score(a, b)
    hits = util.semantic_search(queries, corpus, query_chunk_size=3, corpus_chunk_size=700,
                                top_k=count, score_function=score)
    assert places(hits) == order[:, :count].tolist()
    for i, one in enumerate(hits):
        assert [hit["score"] for hit in one] == scores[i, order[i, :count]].tolist()


def test_ascending_scores_are_all_found():
    corpus = numpy.arange(1, 20001, dtype=numpy.float32)[:, None]
    hits = util.semantic_search(numpy.ones((2, 1), numpy.float32), corpus, top_k=3,
                                score_function=util.dot_score)
    assert places(hits) == [[19999, 19998, 19997]] * 2


def test_chunks_change_nothing(generator):
    queries, corpus = vectors(generator, 300), vectors(generator, 5000)
    whole = places(util.semantic_search(queries, corpus))
    for rows, columns in ((1, 5000), (1000, 13), (299, 4999)):
        assert places(util.semantic_search(queries, corpus, rows, columns)) == whole


def test_a_score_that_is_no_number_is_not_listed(generator):
    corpus = vectors(generator, 50)
    expected = places(util.semantic_search(corpus[1:2], corpus, top_k=50))[0]
    corpus[7] = numpy.nan
    expected.remove(7)
    assert places(util.semantic_search(corpus[1:2], corpus, top_k=50)) == [expected]
    assert util.semantic_search(corpus[7], corpus) == [[]]


def test_kinds_of_input(generator):
    corpus = vectors(generator, 40)
    expected = places(util.semantic_search(corpus[:2], corpus))
    for given in (corpus[:2].tolist(), list(corpus[:2]), corpus[:2].astype(numpy.float64),
                  tuple(corpus[:2])):
        assert places(util.semantic_search(given, corpus)) == expected
    assert places(util.semantic_search(corpus[:2], list(corpus))) == expected
    assert places(util.semantic_search(corpus[0].tolist(), corpus)) == expected[:1]
    assert places(util.semantic_search(corpus[0], corpus)) == expected[:1]
    assert util.semantic_search(corpus[:2], []) == [[], []]
    assert util.semantic_search([], corpus) == []
    assert util.semantic_search(corpus[:2], corpus, top_k=0) == [[], []]
    assert util.information_retrieval(corpus[:2], corpus, top_k=1) == util.semantic_search(
        corpus[:2], corpus, top_k=1)


def test_bad_arguments(generator):
    corpus = vectors(generator, 40)
    with pytest.raises(ArgumentError, match="as many values"):
        util.semantic_search(corpus[:, :4], corpus)
    for name in ("query_chunk_size", "corpus_chunk_size", "top_k"):
        with pytest.raises(ArgumentError, match=name):
            util.semantic_search(corpus, corpus, **{name: -1})
    with pytest.raises(ArgumentError, match="shape"):
        util.semantic_search(corpus[None], corpus)
    with pytest.raises(ArgumentError, match="max_pairs"):
        util.paraphrase_mining_embeddings(corpus, max_pairs=0)
    with pytest.raises(ArgumentError, match="min_community_size"):
        util.community_detection(corpus, min_community_size=0)


def test_memory_does_not_grow_with_the_corpus(generator):
    """100 x 400,000 scores are 160 MB; a tile is 8 MB."""
    queries, corpus = vectors(generator, 100, 4), vectors(generator, 400000, 4)
    util.semantic_search(queries, corpus[:100])
    tracemalloc.start()
    util.semantic_search(queries, corpus)
    assert tracemalloc.get_traced_memory()[1] < 40 << 20
    tracemalloc.reset_peak()
    util.community_detection(corpus[:8000], 0.999, 3)  # of 256 MB
    assert tracemalloc.get_traced_memory()[1] < 64 << 20
    tracemalloc.stop()


def test_pairs_of_all(generator):
    rows = vectors(generator, 60)
    unit = rows / numpy.linalg.norm(rows, axis=1, keepdims=True)
    scores = unit @ unit.T
    expected = sorted(((scores[i, j], i, j) for i in range(60) for j in range(i + 1, 60)),
                      reverse=True)
    found = util.paraphrase_mining_embeddings(rows, query_chunk_size=7, corpus_chunk_size=11)
    assert [tuple(pair[1:]) for pair in found] == [pair[1:] for pair in expected]
    assert numpy.allclose([pair[0] for pair in found], [pair[0] for pair in expected], atol=1e-6)
    best = util.paraphrase_mining_embeddings(rows, query_chunk_size=7, max_pairs=20)
    assert [pair[1:] for pair in best] == [pair[1:] for pair in found[:20]]
    assert util.paraphrase_mining_embeddings(rows[:1]) == []
    assert util.paraphrase_mining_embeddings([]) == []


def test_pairs_of_texts(tiny):
    texts = ["a small test", "of the model", "a small test", "with other words"]
    best = util.paraphrase_mining(tiny, texts, top_k=2)[0]
    assert best[1:] == [0, 2] and best[0] == pytest.approx(1, abs=1e-5)


def test_communities(generator):
    centres = 10 * numpy.eye(3, 16, dtype=numpy.float32)
    rows = numpy.concatenate([centre + vectors(generator, size) for centre, size in zip(
        centres, (30, 20, 4), strict=True)])
    found = util.community_detection(rows, threshold=0.7, min_community_size=5, batch_size=7)
    assert [sorted(group) for group in found] == [list(range(30)), list(range(30, 50))]
    assert util.community_detection(rows[:4], min_community_size=5) == []
    assert util.community_detection([], min_community_size=5) == []
    same = numpy.ones((20, 4), numpy.float32)
    assert util.community_detection(same, 0.9, 20) == [list(range(20))]


def test_quantize_takes_nothing_and_any_tensor():
    assert util.quantize_embeddings([], "int8") == []
    torch = pytest.importorskip("torch")
    rows = torch.arange(-8.0, 8.0).reshape(2, 8)
    expected = util.quantize_embeddings(rows.numpy(), "binary")
    for given in (rows.to(torch.bfloat16), rows.clone().requires_grad_(),
                  list(rows.to(torch.bfloat16))):
        assert (util.quantize_embeddings(given, "binary") == expected).all()
    ranges = torch.stack((rows.min(0).values, rows.max(0).values))
    assert (util.quantize_embeddings(rows, "uint8", ranges=ranges)
            == util.quantize_embeddings(rows.numpy(), "uint8", ranges=ranges.numpy())).all()


def test_tensors(generator):
    torch = pytest.importorskip("torch")
    queries, corpus = vectors(generator, 3), vectors(generator, 90)
    expected = places(util.semantic_search(queries, corpus))
    given = torch.from_numpy(queries)
    for one in (given, torch.nn.Parameter(given), given.double(), list(given), [given[0]]):
        hits = util.semantic_search(one, torch.nn.Parameter(torch.from_numpy(corpus)))
        assert places(hits) == expected[:len(one)]
    for function in (util.euclidean_sim, util.manhattan_sim, lambda a, b: a @ b.T):
        hits = util.semantic_search(given, torch.nn.Parameter(torch.from_numpy(corpus)),
                                    score_function=function, corpus_chunk_size=17)
        _, order = function(given, torch.from_numpy(corpus)).topk(10)
        assert places(hits) == order.tolist()
    half = torch.from_numpy(corpus).to(torch.bfloat16)
    _, order = util.cos_sim(half[:2], half).topk(5)
    assert places(util.semantic_search(half[:2], half, top_k=5)) == order.tolist()
    with pytest.raises(ArgumentError, match="sparse"):
        util.semantic_search(given, torch.from_numpy(corpus).to_sparse())


def test_the_same_as_upstream(generator, reference):
    theirs = pytest.importorskip("sentence_transformers.util")
    torch = pytest.importorskip("torch")
    rows = vectors(generator, 700, 24)
    tensor = torch.from_numpy(rows)
    ours = util.semantic_search(tensor[:30], tensor)
    for one, other in zip(ours, theirs.semantic_search(tensor[:30], tensor), strict=True):
        assert places([one]) == places([other])
        assert numpy.allclose([x["score"] for x in one], [x["score"] for x in other], atol=1e-6)
    for options in ({}, {"top_k": 3}, {"max_pairs": 100, "query_chunk_size": 64},
                    {"score_function": theirs.euclidean_sim, "corpus_chunk_size": 50}):
        a = util.paraphrase_mining_embeddings(tensor, **options)
        b = theirs.paraphrase_mining_embeddings(tensor, **options)
        assert sorted(pair[1:] for pair in a) == sorted(pair[1:] for pair in b)
        assert numpy.allclose([pair[0] for pair in a], [pair[0] for pair in b], atol=1e-5)
    grouped = torch.from_numpy(vectors(generator, 700, 24, kinds=20)) + 0.3 * tensor
    for options in ({"min_community_size": 5}, {"threshold": 0.9, "min_community_size": 1},
                    {"threshold": 0.5, "batch_size": 64}):
        a = util.community_detection(grouped, **options)
        assert a == theirs.community_detection(grouped, **options) and len(a) > 3
    for odd in (rows[:9], rows[:9, :23]):
        assert numpy.allclose(util.pairwise_angle_sim(odd, odd[::-1].copy()),
                              theirs.pairwise_angle_sim(odd, odd[::-1].copy()), atol=1e-6)


def test_without_torch_the_same():
    """In a process of its own, where only numpy is there."""
    source = """
import sys, numpy
from embound import util
rows = numpy.random.default_rng(2).standard_normal((50, 9)).astype(numpy.float32)
hits = util.semantic_search(rows[:2], rows, score_function=util.manhattan_sim, top_k=2)
print([[h["corpus_id"] for h in one][0] for one in hits], len(util.community_detection(rows, 0.3)),
      util.pairwise_angle_sim(rows[:2], rows[:2]).round(5).tolist(), "torch" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", source], text=True, capture_output=True,
                          check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("[0, 1] ") and done.stdout.rstrip().endswith("[1.0, 1.0] False")
