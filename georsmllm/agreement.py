"""Which of an image's captions agree with each other: what is learnt best when several people described one picture.

Five people write five sentences, and a model taught all five learns a mixture that none of them said. The sentence that
the others come closest to is the one that says what everybody saw, and is what a caption is scored by.
"""

from __future__ import annotations

from collections.abc import Sequence

from gmrt.georsmllm.evaluation.scores import normalise


def most_agreed(captions: Sequence[Sequence[str]], keep: int) -> list[tuple[str, ...]]:
    """The ``keep`` captions of each image that agree best with its others, best first; fewer where there are fewer.

    Agreement is CIDEr (Vedantam et al., arXiv 1411.5726) of a caption against the others of its image, with the words'
    weights of the whole set. An image with one or two captions keeps them in their order.
    """
    places = [(i, k) for i, group in enumerate(captions) if len(group) > 2 for k in range(len(group))]
    scores = dict(zip(places, _agreement(captions, places), strict=True))
    return [
        tuple(group[k] for k in sorted(range(len(group)), key=lambda k: -scores.get((i, k), 0.0))[:keep])
        for i, group in enumerate(captions)
    ]


def _agreement(captions: Sequence[Sequence[str]], places: Sequence[tuple[int, int]]) -> list[float]:
    if not places:
        return []
    from pycocoevalcap.cider.cider_scorer import CiderScorer

    scorer = CiderScorer()
    for i, k in places:
        words = [normalise(caption) for caption in captions[i]]
        scorer += (words[k], words[:k] + words[k + 1 :])
    _, scores = scorer.compute_score()
    return [float(score) for score in scores]
