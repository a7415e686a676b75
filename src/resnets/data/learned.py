"""What an epoch leaves out because it is learned already (InfoBatch, Qin et al. 2024)."""

from collections.abc import Mapping

import numpy as np

from resnets.data.order import Sequence, seen_before, uniform

PASSES = 0x706173736573  # mixed into the seed, so that these draws are no image's


class Learned:
    """The loss of each training image when it was last seen, and the order of an epoch that goes by it.

    A pass over the images leaves each of those whose loss lies below the mean out with probability `skip`, and an epoch is
    as many passes as fill it. So an epoch has its usual length, and shows oftener what isn't learned yet. Weights make up
    for it: the weighted mean loss over what is shown is, on average, the mean over all images. In InfoBatch a pass is an
    epoch, which is shorter then, and the weights are 1 and 1/(1 − skip): these, but for a factor.
    """

    def __init__(self, count: int, skip: float) -> None:
        self.skip = skip
        self.before = np.full(count, np.inf, np.float32)  # as the epoch began; infinite where never seen
        self.latest = self.before.copy()

    def saw(self, samples: np.ndarray, losses: np.ndarray) -> None:
        """Note the losses of some images, float32 [samples]; of one that is there twice, the last."""
        self.latest[samples] = losses

    def next_epoch(self) -> None:
        """Let the next epoch go by what was seen until now."""
        self.before = self.latest.copy()

    def sequence(self, seed: int, epoch: int, length: int) -> Sequence:
        """`length` images of an epoch, with weights: a function of seed, epoch and losses."""
        seen = np.isfinite(self.before)
        mean = self.before[seen].mean() if seen.any() else 0.0
        shown = np.where(self.before < mean, 1 - self.skip, 1.0)  # how probably, in a pass
        every, passes, there = np.arange(len(shown)), [np.zeros(0, np.int64)], 0
        while there < length:
            draws = uniform(seed ^ PASSES, epoch, every, 2, np.full(len(shown), len(passes) - 1))
            chosen = np.flatnonzero(draws[:, 0] < shown)
            passes.append(chosen[np.argsort(draws[chosen, 1], kind="stable")])
            there += len(chosen)
        samples = np.concatenate(passes)[:length]
        weights = (shown.mean() / shown[samples]).astype(np.float32)
        return Sequence(samples, seen_before(samples), weights)

    def state_dict(self) -> dict[str, np.ndarray]:
        """What a checkpoint keeps."""
        return {"before": self.before, "latest": self.latest}

    def load_state_dict(self, state: Mapping[str, np.ndarray]) -> None:
        """Take up what a checkpoint kept. Raises ValueError where it is of other images."""
        if {name: len(array) for name, array in state.items()} != dict.fromkeys(("before", "latest"), len(self.before)):
            raise ValueError("the checkpoint knows the losses of other images than these; begin a run of its own")
        self.before, self.latest = state["before"].copy(), state["latest"].copy()
