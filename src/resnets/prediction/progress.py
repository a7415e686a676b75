"""How far a bulk run is: images a second, the time left, and whether decoding or arithmetic is the limit."""

from resnets.data.progress import ImageProgress
from resnets.prediction.predictor import Predictor


class BulkProgress(ImageProgress):
    """The progress of a predictor's images, with what limits their speed."""

    first = 2.0

    def __init__(self, name: str, images: int, done: int, predictor: Predictor) -> None:
        super().__init__(name, images, done)
        self.predictor = predictor

    @property
    def limit(self) -> str:
        """What takes most of the cores' time: decoding or arithmetic."""
        return "decoding" if self.predictor.decoding > self.predictor.computing else "arithmetic"

    @property
    def said(self) -> str:
        """Speed and limit, in words, and the limit's share of the cores' time."""
        spent = self.predictor.decoding, self.predictor.computing
        share = max(spent) / sum(spent) if sum(spent) else 0.0
        return f"{super().said}, {self.limit} is the limit ({share:.0%})"
