"""The exponential moving average of a network's weights."""
# torch._foreach_… have no public names
# pyright: reportPrivateImportUsage=false

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class Average:
    """The average of a network's weights and of its norms' statistics over the steps (Polyak and Juditsky 1992)."""

    def __init__(self, network: nn.Module, decay: float) -> None:
        """Starts as the network is, on its device; `decay` is what a step leaves of the average."""
        self.decay = decay
        self.tensors = {name: tensor.detach().clone() for name, tensor in network.state_dict().items()}

    @torch.no_grad()
    def update(self, network: nn.Module, step: int) -> None:
        """Take in the network as it is after step 0, 1, …

        The decay is min(decay, (1 + step)/(10 + step)), as TensorFlow's, so that the first weights are soon forgotten.
        Numbers are averaged, counters copied.
        """
        state = self._those_of(network)
        numbers = [name for name, tensor in self.tensors.items() if tensor.is_floating_point()]
        decay = min(self.decay, (1 + step) / (10 + step))
        torch._foreach_lerp_([self.tensors[name] for name in numbers], [state[name] for name in numbers], 1 - decay)
        for name in self.tensors.keys() - set(numbers):
            self.tensors[name].copy_(state[name])

    def state_dict(self) -> dict[str, Tensor]:
        """The averaged weights under the network's names; no copies."""
        return dict(self.tensors)

    @torch.no_grad()
    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Copy a saved average in. Raises ValueError where it is of another network."""
        if {name: tensor.shape for name, tensor in state.items()} != {n: t.shape for n, t in self.tensors.items()}:
            raise ValueError("the average isn't of this network: its tensors have other names or shapes")
        for name, tensor in state.items():
            self.tensors[name].copy_(tensor)

    @contextmanager
    def applied(self, network: nn.Module) -> Iterator[None]:
        """Within it the network has the averaged weights; afterwards its own again, bit for bit. Nothing is copied.

        The tensors change places, so that the average is the network's own for as long: measure there, but don't train.
        """
        own = {name: tensor.data for name, tensor in self._those_of(network).items()}
        try:
            self._place(network, self.tensors)
            yield
        finally:
            self._place(network, own)

    def _place(self, network: nn.Module, tensors: Mapping[str, Tensor]) -> None:
        for name, tensor in network.state_dict(keep_vars=True).items():
            tensor.data = tensors[name]

    def _those_of(self, network: nn.Module) -> dict[str, Tensor]:
        """The network's tensors themselves. ValueError where they aren't those that are averaged."""
        state = network.state_dict(keep_vars=True)
        if state.keys() != self.tensors.keys():
            raise ValueError("the average is of another network: its tensors have other names")
        return state
