"""What of a network learns, and when: everything, the head alone, or one stage after the other from the head down."""

from torch import nn

from resnets.networks import ResNet
from resnets.training.processes.norms import norms


def parts(network: ResNet) -> list[list[nn.Module]]:
    """The network from its head down: fully connected layer (and a last norm), the stages, the stem."""
    head = [network.fc, network.norm]
    return [head, *([network.get_submodule(stage)] for stage in reversed(network.stages)), [network.conv1, network.bn1]]


def learning(kind: str, share: float, count: int) -> int:
    """How many of `count` parts learn when `share` of the run is over (0 to 1).

    "staged": the head alone at first, then one more part at a time, all from the middle of the run on (Howard and Ruder
    2018, section 3.3: gradual unfreezing).
    """
    if kind == "backbone":
        return 1
    if kind == "staged":
        return min(count, 1 + int(2 * share * (count - 1)))
    return count


class Freezer:
    """Keeps the parts of a network that don't learn as they are: weights, and the statistics of their norms."""

    def __init__(self, network: ResNet, kind: str, shared: bool, still: bool = False) -> None:
        """`shared`: several processes train, whose gradients are summed for every weight that had one at the start.

        `still`: no norm's statistics move, those of parts that learn neither.
        """
        self.parts, self.kind, self.shared, self.still = parts(network), kind, shared, still
        self.count = len(self.parts)

    def apply(self, share: float) -> None:
        """Freeze and unfreeze for where the run is; call in training mode, before a step."""
        if self.kind == "none":
            return
        self.count = learning(self.kind, share, len(self.parts))
        for number, modules in enumerate(self.parts):
            learns = number < self.count
            for module in modules:
                if not self.shared:
                    module.requires_grad_(learns)
                for norm in norms(module):
                    norm.train(learns and not self.still)

    def drop_gradients(self) -> None:
        """Forget the gradients of what doesn't learn, so that its optimizer's state stays out of it too."""
        if self.kind != "none" and self.shared:
            for modules in self.parts[self.count :]:
                for module in modules:
                    for parameter in module.parameters():
                        parameter.grad = None
