import math

import pytest

from resnets.training.optimizers.schedule import learning_rate
from resnets.training.recipe import Recipe
from resnets.training.shipped import names, recipe


def cosine(**changes):
    return Recipe(epochs=1, **{"learning_rate": 0.4, **changes})


def test_the_warm_up_is_linear_and_ends_at_the_top():
    warming = cosine(warmup=0.1)
    rates = [learning_rate(warming, step, 100) for step in range(100)]
    assert rates[:10] == pytest.approx([0.04 * (step + 1) for step in range(10)])
    assert rates[10] == pytest.approx(0.4)
    assert max(rates) == pytest.approx(0.4)


@pytest.mark.parametrize("warmup", [0.0, 0.1, 0.5])
def test_cosine_falls_to_almost_nothing(warmup):
    steps, chosen = 1000, cosine(warmup=warmup)
    rates = [learning_rate(chosen, step, steps) for step in range(steps)]
    rise = round(warmup * steps)
    falling = rates[rise:]
    assert falling == sorted(falling, reverse=True)
    assert falling[len(falling) // 2] == pytest.approx(0.2)
    assert 0 < rates[-1] < 0.4 * 1e-4


@pytest.mark.parametrize(("warmup", "steps"), [(0.1, 1), (1.0, 1), (1.0, 10), (0.5, 1), (0.9, 2)])
def test_a_short_run_has_a_rate_at_every_step(warmup, steps):
    for step in range(steps):
        assert 0 < learning_rate(cosine(warmup=warmup), step, steps) <= 0.4


def test_steps_drop_the_rate_at_the_milestones():
    stepped = cosine(schedule="step", milestones=(0.5, 0.75), drop=0.1)
    rates = [learning_rate(stepped, step, 100) for step in range(100)]
    assert rates == pytest.approx([0.4] * 50 + [0.04] * 25 + [0.004] * 25)


def test_a_constant_rate_after_the_warm_up():
    rates = [learning_rate(cosine(schedule="constant", warmup=0.2), step, 10) for step in range(10)]
    assert rates == pytest.approx([0.2] + [0.4] * 9)


@pytest.mark.parametrize("name", names())
def test_the_rate_is_a_function_of_the_step(name):
    chosen = recipe(name)
    forwards = [learning_rate(chosen, step, 50) for step in range(50)]
    assert forwards == [learning_rate(chosen, step, 50) for step in reversed(range(50))][::-1]
    assert all(math.isfinite(rate) and 0 < rate <= chosen.learning_rate for rate in forwards)


def test_a_linear_rate_is_a_triangle_with_a_warm_up():
    linear = cosine(schedule="linear", warmup=0.2)
    rates = [learning_rate(linear, step, 10) for step in range(10)]
    assert rates == pytest.approx([0.2, 0.4, *(0.4 * (8 - step) / 8 for step in range(8))])
    assert learning_rate(cosine(schedule="linear"), 0, 10) == pytest.approx(0.4)


@pytest.mark.parametrize("schedule", ["cosine", "linear"])
@pytest.mark.parametrize("warmup", [0.0, 0.2])
def test_a_falling_rate_would_be_0_at_the_end_and_stays_there(schedule, warmup):
    chosen = cosine(schedule=schedule, warmup=warmup)
    assert learning_rate(chosen, 99, 100) > 0
    assert learning_rate(chosen, 100, 100) == learning_rate(chosen, 173.2, 100) == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("schedule", ["cosine", "linear", "constant", "step"])
def test_parts_of_steps_are_between_the_steps(schedule):
    chosen = cosine(schedule=schedule, warmup=0.1, milestones=(0.5,))
    for step in range(99):
        here, there = learning_rate(chosen, step, 100), learning_rate(chosen, step + 1, 100)
        between = learning_rate(chosen, step + 0.5, 100)
        assert min(here, there) <= between <= max(here, there) <= 0.4, step
    if schedule in ("cosine", "linear"):
        assert learning_rate(chosen, 50, 100) > learning_rate(chosen, 50.5, 100) > learning_rate(chosen, 51, 100)


@pytest.mark.parametrize("schedule", ["cosine", "linear", "constant", "step"])
def test_a_run_of_warm_up_alone_ends_at_the_top(schedule):
    assert learning_rate(cosine(schedule=schedule, warmup=1.0), 10, 10) == pytest.approx(0.4)
