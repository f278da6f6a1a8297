"""Texts that the programs share: three subjects, ten sentences each, with their labels.

SPDX-License-Identifier: Apache-2.0
"""
SUBJECTS = {
    "garden": [
        "Tomatoes need sun, water and a stake to climb on.",
        "We sowed carrots in rows beside the beans.",
        "The roses bloom until the first frost.",
        "Compost makes heavy soil loose and dark.",
        "Slugs ate the young lettuce during the night.",
        "Prune the apple tree while it is dormant.",
        "Bees carry pollen from flower to flower.",
        "She planted tulip bulbs in October.",
        "The hedge was trimmed before the birds nested.",
        "Mulch keeps the beds moist in a dry summer.",
    ],
    "sea": [
        "The ferry left the harbour in a heavy swell.",
        "A lighthouse warns ships of the reef.",
        "Fishermen mend their nets on the quay.",
        "The tide carried the small boat out to sea.",
        "Whales were seen off the northern coast.",
        "Sailors tied the ropes and lowered the anchor.",
        "Waves broke over the bow of the trawler.",
        "Salt water rusts the hull of every vessel.",
        "The captain steered by the stars all night.",
        "Gulls followed the boat back into port.",
    ],
    "music": [
        "The violinist tuned her strings before the concert.",
        "A choir sang in the old stone church.",
        "He practised scales on the piano each morning.",
        "The orchestra rehearsed the symphony twice.",
        "Drums set the rhythm of the dance.",
        "She wrote a song for guitar and voice.",
        "The opera lasted more than three hours.",
        "A trumpet solo opened the second movement.",
        "The band recorded its album in one week.",
        "Jazz pianists improvise over simple chords.",
    ],
}
TEXTS = [text for texts in SUBJECTS.values() for text in texts]
LABELS = [number for number, texts in enumerate(SUBJECTS.values()) for _ in texts]
QUERIES = [
    "What do vegetables need to grow?",
    "boats and ships near the coast",
    "Who plays an instrument in the concert?",
]
