import pytest
import torch

from resnets.networks import network
from resnets.training.optimizers.average import Average


def small(seed=0, **changes):
    return network("resnet20", blocks=(1, 1, 1), width=4, classes=3, seed=seed, **changes)


def copied(state):
    return {name: tensor.detach().clone() for name, tensor in state.items()}


def same(state, other):
    assert state.keys() == other.keys()
    return all(torch.equal(tensor, other[name]) for name, tensor in state.items())


def moved(net, step):
    """The network after a step of something: every tensor changed, as a function of the step."""
    generator = torch.Generator().manual_seed(step)
    with torch.no_grad():
        for tensor in net.state_dict().values():
            if tensor.is_floating_point():
                tensor.add_(torch.randn(tensor.shape, generator=generator).abs())
            else:
                tensor.add_(1)


@pytest.mark.parametrize("decay", [0.3, 0.9])
def test_the_average_is_its_recursion_and_counters_are_copies(decay):
    net = small()
    average, wanted = Average(net, decay), {name: tensor.double() for name, tensor in net.state_dict().items()}
    for step in range(20):
        moved(net, step)
        average.update(net, step)
        now = min(decay, (1 + step) / (10 + step))
        wanted = {name: now * wanted[name] + (1 - now) * tensor for name, tensor in net.state_dict().items()}
    for name, tensor in average.state_dict().items():
        assert tensor.dtype == net.state_dict()[name].dtype, name
        if tensor.is_floating_point():
            torch.testing.assert_close(tensor.double(), wanted[name], rtol=1e-5, atol=1e-6)
        else:
            assert tensor == 20


def test_a_network_that_stays_is_its_own_average():
    net = small()
    average = Average(net, 0.99)
    for step in range(5):
        average.update(net, step)
    assert same(average.state_dict(), net.state_dict())


def test_the_first_weights_are_soon_forgotten():
    net = small()
    average = Average(net, 0.9999)
    first = net.fc.weight.detach().clone()
    with torch.no_grad():
        net.fc.weight.add_(1)
    for step in range(30):
        average.update(net, step)
    left = (1 - (average.state_dict()["fc.weight"] - first)).abs().max()
    assert left < 1e-5  # 0.9999³⁰ of them would be 0.997


def test_training_goes_on_without_touching_the_average():
    net = small()
    average = Average(net, 0.9)
    before = copied(average.state_dict())
    moved(net, 0)
    assert same(average.state_dict(), before)


def test_within_applied_the_network_has_the_average_and_afterwards_its_own_weights():
    net = small()
    average = Average(net, 0.9)
    moved(net, 0)
    average.update(net, 0)
    moved(net, 1)
    own, averaged = copied(net.state_dict()), copied(average.state_dict())
    images, parameters = torch.randn(4, 3, 32, 32), list(net.parameters())
    other = small(seed=1)
    other.load_state_dict(averaged)
    net.eval()
    other.eval()
    with torch.inference_mode():
        before = net(images)
        with average.applied(net):
            assert same(net.state_dict(), averaged)
            assert torch.equal(net(images), other(images))
        assert torch.equal(net(images), before)
    assert same(net.state_dict(), own) and same(average.state_dict(), averaged)
    assert all(one is other for one, other in zip(parameters, net.parameters(), strict=True))
    assert not same(own, averaged)


def test_applied_gives_the_weights_back_where_the_block_fails():
    net = small()
    average = Average(net, 0.9)
    moved(net, 0)
    own = copied(net.state_dict())
    with pytest.raises(KeyError, match="stop"), average.applied(net):
        raise KeyError("stop")
    assert same(net.state_dict(), own)


def test_applied_copies_nothing():
    net = small()
    average = Average(net, 0.9)
    places = {name: tensor.data_ptr() for name, tensor in average.state_dict().items()}
    own = {name: tensor.data_ptr() for name, tensor in net.state_dict().items()}
    with average.applied(net):
        assert {name: tensor.data_ptr() for name, tensor in net.state_dict().items()} == places
    assert {name: tensor.data_ptr() for name, tensor in net.state_dict().items()} == own


def test_training_after_applied_goes_on_as_without_it():
    images, labels = torch.randn(8, 3, 16, 16, generator=torch.Generator().manual_seed(0)), torch.arange(8) % 3

    def train(measures):
        net = small().to(memory_format=torch.channels_last)
        sgd = torch.optim.SGD(net.parameters(), 0.1, momentum=0.9)
        average = Average(net, 0.9)
        for step in range(4):
            torch.nn.functional.cross_entropy(net(images), labels).backward()
            sgd.step()
            sgd.zero_grad()
            average.update(net, step)
            if measures:
                with average.applied(net):
                    net.eval()(images)
                net.train()
        return net.state_dict(), average.state_dict()

    (one, its), (other, others) = train(False), train(True)
    assert same(one, other) and same(its, others)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_a_saved_average_goes_on_bit_for_bit(layout):
    net, again = small().to(memory_format=layout), small(seed=1).to(memory_format=layout)
    average = Average(net, 0.9)
    for step in range(3):
        moved(net, step)
        average.update(net, step)
    resumed = Average(again, 0.9)
    resumed.load_state_dict({name: tensor.contiguous().clone() for name, tensor in average.state_dict().items()})
    again.load_state_dict(net.state_dict())
    for step in range(3, 6):
        for one, its in ((net, average), (again, resumed)):
            moved(one, step)
            its.update(one, step)
    assert same(average.state_dict(), resumed.state_dict())
    kernel = resumed.state_dict()["layer1.0.conv1.weight"]
    assert kernel.is_contiguous(memory_format=layout)


def test_an_average_of_another_network_is_refused():
    net, other = small(), network("resnet20", blocks=(2, 1, 1), width=4, classes=3, seed=0)
    average, own = Average(net, 0.9), copied(net.state_dict())
    with pytest.raises(ValueError, match="names or shapes"):
        average.load_state_dict(Average(other, 0.9).state_dict())
    with pytest.raises(ValueError, match="names or shapes"):
        average.load_state_dict(network("resnet20", blocks=(1, 1, 1), width=4, classes=5, seed=0).state_dict())
    with pytest.raises(ValueError, match="another network"):
        average.update(other, 0)
    with pytest.raises(ValueError, match="another network"), average.applied(other):
        pass
    assert same(average.state_dict(), own) and same(net.state_dict(), own)
