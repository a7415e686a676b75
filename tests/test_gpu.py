"""Training on a GPU, where there is one."""

from itertools import islice

import pytest
import torch

from resnets.training import building
from resnets.training.options import Options
from resnets.training.plan import plan
from resnets.training.processes.world import World


@pytest.mark.gpu
@pytest.mark.parametrize("settings", [{}, {"drop_path": 0.1, "accumulate": 2}, {"optimizer": "muon"}, {"ema_decay": 0.9}])
def test_a_step_never_waits_for_the_gpu(settings):
    chosen = Options.parse("digits", {"model": "resnet20", "compile": "off", **settings})
    made = building.trainer(plan(chosen), chosen, World())
    made.train_mode()
    batches = list(islice(made.parts.loader.batches(0), 4))
    for number, batch in enumerate(batches):
        torch.cuda.set_sync_debug_mode("error" if number > 1 else "default")  # what is made once may wait
        try:
            made.step(batch, 0, number, len(batch.labels), 0.1)
        finally:
            torch.cuda.set_sync_debug_mode("default")
    torch.cuda.synchronize()
    assert torch.isfinite(made.sums).all()
