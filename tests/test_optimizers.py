import math

import numpy as np
import pytest
import torch
from timm.optim import Lamb as TimmLamb
from torch import nn

from resnets.networks import network
from resnets.training.optimizers.lamb import Lamb
from resnets.training.optimizers.muon import Muon, iterated, orthogonal
from resnets.training.optimizers.optimizer import optimizer
from resnets.training.optimizers.schedule import set_rate
from resnets.training.recipe import Recipe
from resnets.training.shipped import names, recipe

KINDS = ["sgd", "adamw", "lamb", "muon"]


def of_kind(kind, **changes):
    return Recipe(epochs=1, optimizer=kind, **{"decay_norm_and_bias": False, "weight_decay": 0.01, **changes})


def small(name="resnet20", **changes):
    return network(name, blocks=(1, 1, 1), width=4, classes=3, seed=0, **changes)


def gradients(net, step):
    """Give every parameter a gradient that is a function of the step."""
    generator = torch.Generator().manual_seed(step)
    for parameter in net.parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        parameter.grad = torch.empty_like(parameter).copy_(noise)  # laid out as the parameter is


def tensors(seed=0):
    """Parameters of several shapes, one of them zeros, and five steps' gradients of each."""
    generator = torch.Generator().manual_seed(seed)
    shapes = [(8, 3, 3, 3), (8, 8, 3, 3), (5, 8), (5,), (4,)]
    start = [torch.randn(shape, generator=generator) for shape in shapes[:-1]] + [torch.zeros(shapes[-1])]
    return start, [[torch.randn(shape, generator=generator) for shape in shapes] for _ in range(5)]


def stepped(make, rate=None):
    """The parameters after each of five steps of an optimizer."""
    start, steps = tensors()
    params = [nn.Parameter(tensor.clone()) for tensor in start]
    made = make(params)
    for step, grads in enumerate(steps):
        if rate:
            made.param_groups[0]["lr"] = rate(step)
        for parameter, gradient in zip(params, grads, strict=True):
            parameter.grad = gradient.clone()
        made.step()
        yield [parameter.detach().clone() for parameter in params]


# Groups


def groups(net, chosen):
    """name → (share of the rate, weight decay) of every parameter."""
    of = {id(parameter): group for group in optimizer(net, chosen).param_groups for parameter in group["params"]}
    return {
        name: (of[id(parameter)]["rate"], of[id(parameter)]["weight_decay"]) for name, parameter in net.named_parameters()
    }


@pytest.fixture(scope="module")
def net():
    return network("resnet18", blocks=(1, 1, 1, 1), width=4, classes=3, seed=0)


@pytest.mark.parametrize("kind", KINDS)
def test_every_parameter_is_in_one_group(net, kind):
    made = optimizer(net, recipe("finetune", {"optimizer": kind}))
    listed = [parameter for group in made.param_groups for parameter in group["params"]]
    assert len(listed) == len({id(parameter) for parameter in listed}) == len(list(net.parameters()))


def test_norms_and_biases_do_not_decay_unless_asked(net):
    norms = {f"{name}.{which}" for name, module in net.named_modules() if isinstance(module, nn.BatchNorm2d)
             for which in ("weight", "bias")}  # fmt: skip
    assert len(norms) > 10
    for name, (_, decay) in groups(net, recipe("quick")).items():
        assert decay == (0 if name in norms or name.endswith(".bias") else 5e-4), name
    assert {decay for _, decay in groups(net, recipe("paper-cifar")).values()} == {1e-4}


def test_the_backbone_has_its_own_rate(net):
    for name, (rate, _) in groups(net, recipe("finetune")).items():
        assert rate == (1 if name.startswith("fc.") else 0.1), name
    assert {rate for rate, _ in groups(net, recipe("quick")).values()} == {1}


def test_set_rate_gives_each_group_its_share(net):
    sgd = optimizer(net, recipe("finetune"))
    set_rate(sgd, 0.5)
    assert len(sgd.param_groups) == 4
    assert {(group["rate"], group["lr"]) for group in sgd.param_groups} == {(1.0, 0.5), (0.1, 0.05)}
    set_rate(sgd, 0.0)
    assert {group["lr"] for group in sgd.param_groups} == {0}


@pytest.mark.parametrize("name", names())
def test_momentum_is_the_recipes(net, name):
    chosen = recipe(name)
    for group in optimizer(net, chosen).param_groups:
        assert chosen.optimizer not in ("sgd", "muon") or group["momentum"] == chosen.momentum
        assert chosen.optimizer != "sgd" or group["nesterov"] == chosen.nesterov


@pytest.mark.parametrize("kind", ["adamw", "lamb"])
def test_betas_are_the_recipes(net, kind):
    made = optimizer(net, of_kind(kind, betas=(0.8, 0.95)))
    assert {group["betas"] for group in made.param_groups} == {(0.8, 0.95)}


def test_a_step_moves_each_parameter_by_its_rate():
    net = small()
    before = {name: parameter.detach().clone() for name, parameter in net.named_parameters()}
    sgd = optimizer(net, of_kind("sgd", momentum=0.0, weight_decay=0.0, backbone_rate=0.1))
    set_rate(sgd, 0.5)
    for parameter in net.parameters():
        parameter.grad = torch.ones_like(parameter)
    sgd.step()
    for name, parameter in net.named_parameters():
        moved = (before[name] - parameter.detach()).mean().item()
        assert moved == pytest.approx(0.5 if name.startswith("fc.") else 0.05, rel=1e-4), name


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_frozen_is_left_out_and_stays(kind):
    net = small()
    for name, parameter in net.named_parameters():
        parameter.requires_grad = name.startswith(("fc.", "layer3."))
    before = {name: parameter.detach().clone() for name, parameter in net.named_parameters()}
    made = optimizer(net, of_kind(kind))
    gradients(net, 0)
    made.step()
    for name, parameter in net.named_parameters():
        assert torch.equal(parameter, before[name]) != parameter.requires_grad, name


@pytest.mark.parametrize("kind", KINDS)
def test_a_network_that_is_all_frozen_is_refused(kind):
    with pytest.raises(ValueError, match="frozen"):
        optimizer(small().requires_grad_(False), of_kind(kind))


@pytest.mark.parametrize("kind", KINDS)
def test_a_parameter_without_a_gradient_stays_and_has_no_state(kind):
    net = small()
    made = optimizer(net, of_kind(kind))
    gradients(net, 0)
    net.fc.weight.grad = None
    before = net.fc.weight.detach().clone()
    made.step()
    assert torch.equal(net.fc.weight, before)
    assert len(made.state_dict()["state"]) == len(list(net.parameters())) - 1


# Their states


@pytest.mark.parametrize("kind", KINDS)
def test_the_state_is_tensors_alone(kind):
    net = small()
    made = optimizer(net, of_kind(kind))
    gradients(net, 0)
    made.step()
    state = made.state_dict()["state"]
    assert sorted(state) == list(range(len(list(net.parameters()))))
    for values in state.values():
        assert values and all(torch.is_tensor(value) and value.dtype == torch.float32 for value in values.values())
        if "step" in values:
            assert values["step"].shape == () and values["step"] == 1


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("kind", KINDS)
def test_a_saved_optimizer_goes_on_bit_for_bit(kind, layout):
    """Saved as arrays in the order of their shape, whatever the network's layout in memory."""
    chosen = of_kind(kind, learning_rate=0.02, weight_decay=0.05, backbone_rate=0.5)

    def fresh():
        net = network("resnet20", blocks=(1, 1, 1), width=12, classes=3, seed=0)
        return net.to(memory_format=layout), optimizer(net, chosen)

    def train(net, made, steps):
        for step in steps:
            set_rate(made, 0.02 / (1 + step))
            gradients(net, step)
            made.step()

    whole, its = fresh()
    train(whole, its, range(6))
    first, made = fresh()
    train(first, made, range(3))
    weights = {name: np.array(tensor.numpy(), order="C") for name, tensor in first.state_dict().items()}
    saved = {
        index: {key: np.array(value.numpy(), order="C") for key, value in values.items()}
        for index, values in made.state_dict()["state"].items()
    }
    second, again = fresh()
    second.load_state_dict({name: torch.from_numpy(array) for name, array in weights.items()})
    state = {index: {key: torch.from_numpy(value) for key, value in values.items()} for index, values in saved.items()}
    again.load_state_dict({"state": state, "param_groups": again.state_dict()["param_groups"]})
    train(second, again, range(3, 6))
    for name, tensor in whole.state_dict().items():
        assert torch.equal(tensor, second.state_dict()[name]), name
    assert not torch.equal(first.fc.weight, second.fc.weight)


@pytest.mark.parametrize("kind", KINDS)
def test_a_loaded_state_is_laid_out_as_its_parameters(kind):
    net = small().to(memory_format=torch.channels_last)
    made = optimizer(net, of_kind(kind))
    gradients(net, 0)
    made.step()
    flat = {
        index: {key: value.contiguous() for key, value in values.items()}
        for index, values in made.state_dict()["state"].items()
    }
    made.load_state_dict({"state": flat, "param_groups": made.state_dict()["param_groups"]})
    kernel = net.layer1[0].conv1.weight
    assert kernel.is_contiguous(memory_format=torch.channels_last) and not kernel.is_contiguous()
    assert all(value.stride() == kernel.stride() for value in made.state[kernel].values() if value.ndim)


# LAMB


@pytest.mark.parametrize("decay", [0.0, 0.02])
@pytest.mark.parametrize("foreach", [False, True])
def test_lamb_is_timms(decay, foreach):
    ours = stepped(lambda params: Lamb(params, 0.01, (0.9, 0.99), decay), rate=lambda step: 0.01 / (1 + step))
    theirs = stepped(
        lambda params: TimmLamb(params, 0.01, betas=(0.9, 0.99), weight_decay=decay, max_grad_norm=None, foreach=foreach),
        rate=lambda step: 0.01 / (1 + step),
    )
    for mine, timms in zip(ours, theirs, strict=True):
        for one, other in zip(mine, timms, strict=True):
            torch.testing.assert_close(one, other, rtol=0, atol=1e-6)


def test_lamb_after_clipping_is_timms_that_clips():
    params, others = ([nn.Parameter(tensor.clone()) for tensor in tensors()[0]] for _ in range(2))
    mine, timms = Lamb(params, 0.01, weight_decay=0.02), TimmLamb(others, 0.01, weight_decay=0.02, max_grad_norm=1.0)
    for grads in tensors()[1]:
        for one, other, gradient in zip(params, others, grads, strict=True):
            one.grad, other.grad = gradient.clone(), gradient.clone()
        assert nn.utils.clip_grad_norm_(params, 1.0) > 1
        mine.step()
        timms.step()
    for one, other in zip(params, others, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-6)


def test_lamb_moves_a_layer_by_a_share_of_its_norm():
    parameter = nn.Parameter(torch.randn(6, 5, generator=torch.Generator().manual_seed(0)))
    before = parameter.detach().clone()
    made = Lamb([parameter], 0.03, weight_decay=0.1)
    parameter.grad = torch.ones(6, 5)
    made.step()
    assert (parameter.detach() - before).norm() == pytest.approx(0.03 * before.norm().item(), rel=1e-4)


def test_lamb_does_not_mind_the_scale_of_the_loss():
    params, others = ([nn.Parameter(tensor.clone()) for tensor in tensors()[0]] for _ in range(2))
    small_loss, large = Lamb(params, 0.01, weight_decay=0.02), Lamb(others, 0.01, weight_decay=0.02)
    for grads in tensors()[1]:
        for one, other, gradient in zip(params, others, grads, strict=True):
            one.grad, other.grad = gradient.clone(), gradient * 1000
        small_loss.step()
        large.step()
    for one, other in zip(params, others, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-5)


# Muon


@pytest.mark.parametrize(("rows", "columns"), [(8, 27), (27, 8), (16, 16), (1, 5)])
def test_orthogonal_keeps_singular_vectors_and_brings_values_to_about_1(rows, columns):
    generator = torch.Generator().manual_seed(0)
    u = torch.linalg.qr(torch.randn(rows, rows, generator=generator))[0]
    v = torch.linalg.qr(torch.randn(columns, columns, generator=generator))[0]
    rank = min(rows, columns)
    values = torch.linspace(1, 0.1, rank)
    found = orthogonal((u[:, :rank] * values @ v[:, :rank].T)[None] * 7)[0]
    inner = u[:, :rank].T @ found @ v[:, :rank]
    assert found.dtype == torch.float32 and found.shape == (rows, columns)
    assert inner.diagonal().min() > 0.6 and inner.diagonal().max() < 1.25
    assert (inner - inner.diagonal().diag()).abs().max() < 1e-4
    torch.testing.assert_close(u[:, :rank] @ inner @ v[:, :rank].T, found, rtol=0, atol=1e-4)


def test_orthogonal_is_the_polynomial_of_each_singular_value():
    x = 1 / math.sqrt(30)
    for _ in range(5):
        x = 3.4445 * x - 4.7750 * x**3 + 2.0315 * x**5
    assert orthogonal(torch.eye(30)[None])[0].diagonal() == pytest.approx(torch.full((30,), x), rel=1e-4)


@pytest.mark.parametrize("digits", [0, 2, 5, 10])
def test_orthogonal_by_squares_is_the_iteration(digits):
    """However much smaller the last singular values are than the first."""
    generator = torch.Generator().manual_seed(0)
    u = torch.linalg.qr(torch.randn(24, 24, generator=generator))[0]
    v = torch.linalg.qr(torch.randn(90, 24, generator=generator))[0]
    x = (u * torch.logspace(0, -digits, 24) @ v.T)[None]
    expected = iterated(x.double() / x.double().norm()).float()
    for one, other in ((x, expected), (x.mT, expected.mT)):
        assert (orthogonal(one) - other).norm() < 1e-3 * other.norm()


def test_orthogonal_takes_each_of_a_batch_by_itself_and_leaves_zeros():
    matrices = torch.randn(3, 5, 7, generator=torch.Generator().manual_seed(0))
    matrices[1] = 0
    found = orthogonal(matrices)
    assert not found[1].any()
    torch.testing.assert_close(found[2], orthogonal(matrices[2:] * 100)[0])


@pytest.mark.parametrize("shape", [(6, 10), (10, 6)])
def test_muon_is_pytorchs_on_a_matrix(shape):
    """PyTorch's iterates in bfloat16, so its steps differ from ours by about that; momentum and decay don't."""
    generator = torch.Generator().manual_seed(0)
    start = torch.randn(shape, generator=generator)
    mine, theirs = nn.Parameter(start.clone()), nn.Parameter(start.clone())
    ours = Muon([{"params": [mine], "muon": True}], lr=0.1, momentum=0.8, weight_decay=0.5)
    pytorchs = torch.optim.Muon([theirs], lr=0.1, momentum=0.8, weight_decay=0.5, nesterov=True)
    for _ in range(5):
        gradient = torch.randn(shape, generator=generator)
        mine.grad, theirs.grad = gradient.clone(), gradient.clone()
        ours.step()
        pytorchs.step()
    moved = (mine - start).norm()
    assert (mine - theirs).norm() < 0.01 * moved


def test_a_kernel_moves_as_the_matrix_it_is():
    generator = torch.Generator().manual_seed(0)
    start, gradient = torch.randn(6, 4, 3, 3, generator=generator), torch.randn(6, 4, 3, 3, generator=generator)
    kernel, matrix = nn.Parameter(start.clone()), nn.Parameter(start.flatten(1).clone())
    for parameter in (kernel, matrix):
        parameter.grad = gradient.clone().view(parameter.shape)
        Muon([{"params": [parameter], "muon": True}], lr=0.1, weight_decay=0.5).step()
    torch.testing.assert_close(kernel.flatten(1), matrix, rtol=0, atol=1e-6)
    assert not torch.equal(kernel, start)


@pytest.mark.parametrize("decay", [0.0, 0.02])
def test_what_muon_leaves_is_sgd_with_nesterov_momentum(decay):
    ours = stepped(lambda params: Muon(params, 0.01, 0.9, decay), rate=lambda step: 0.01 / (1 + step))
    theirs = stepped(
        lambda params: torch.optim.SGD(params, 0.01, 0.9, weight_decay=decay, nesterov=True),
        rate=lambda step: 0.01 / (1 + step),
    )
    for mine, sgds in zip(ours, theirs, strict=True):
        for one, other in zip(mine, sgds, strict=True):
            torch.testing.assert_close(one, other, rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", ["resnet20", "resnet50d"])
@pytest.mark.parametrize("frozen", ["", "conv1."])
def test_muon_takes_every_kernel(name, frozen):
    net = network(name, blocks=(1, 1, 1), width=8, classes=3, seed=0)
    for key, parameter in net.named_parameters():
        parameter.requires_grad = not (frozen and key.startswith(frozen))
    made = optimizer(net, of_kind("muon", backbone_rate=0.5))
    of = {id(parameter): group for group in made.param_groups for parameter in group["params"]}
    for key, parameter in net.named_parameters():
        if parameter.requires_grad:
            kernel = parameter.ndim == 4
            rate = 1.0 if key.startswith("fc.") else 0.5
            assert (of[id(parameter)]["muon"], of[id(parameter)]["rate"]) == (kernel, rate), key
            decay = 0.01 / (1 - 0.9) if kernel else 0.01 if parameter.ndim > 1 else 0  # as long as SGD's with momentum
            assert of[id(parameter)]["weight_decay"] == pytest.approx(decay), key


# All of them


@pytest.mark.parametrize(("kind", "rate"), [("sgd", 0.05), ("adamw", 0.005), ("lamb", 0.02), ("muon", 0.05)])
def test_each_learns(kind, rate):
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(48) % 3
    images = torch.randn(48, 3, 8, 8, generator=generator) + labels.view(-1, 1, 1, 1)
    net = small()
    made = optimizer(net, of_kind(kind, learning_rate=rate))
    losses = []
    for _ in range(15):
        loss = nn.functional.cross_entropy(net(images), labels)
        loss.backward()
        made.step()
        made.zero_grad()
        losses.append(loss.item())
    assert losses[-1] < 0.3 * losses[0]
