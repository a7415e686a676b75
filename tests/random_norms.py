"""For tests: a network whose every norm matters and whose answer depends on the image, however deep; and comparing it."""

import numpy as np
import torch
from torch import nn


@torch.no_grad()
def randomised(net, size=64):
    """The network, in evaluation, with random statistics, scales, shifts and fc bias.

    Each variance is set to what the norm sees, times a random factor, as images pass once: so maps neither fade nor grow
    with depth, and a wrong layer anywhere shows in the logits.
    """
    generator = torch.Generator().manual_seed(1)

    def see(norm, inputs):
        norm.running_var.uniform_(0.7, 1.3, generator=generator).mul_(inputs[0].square().mean())
        norm.running_mean.normal_(0, 0.1, generator=generator).mul_(norm.running_var.sqrt())
        norm.weight.uniform_(0.7, 1.3, generator=generator)
        norm.bias.normal_(0, 0.1, generator=generator)

    norms = [module for module in net.modules() if isinstance(module, nn.BatchNorm2d)]
    hooks = [norm.register_forward_pre_hook(see) for norm in norms]
    net.eval()(torch.randn(2, net.architecture.channels, size, size, generator=generator))
    for hook in hooks:
        hook.remove()
    net.fc.bias.normal_(0, 0.1, generator=generator)
    return net


def state_of(module):
    """The weights by name, as arrays that share their memory."""
    return {key: value.numpy() for key, value in module.state_dict().items()}


def assert_close(found, expected):
    """Within 1e-4 of the largest expected."""
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() <= 1e-4 * np.abs(expected).max()
