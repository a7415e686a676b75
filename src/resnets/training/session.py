"""One run from its plan to its models and report."""

import io
import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console

from resnets import machine
from resnets.data.health import brief, in_words
from resnets.errors import Terminated, WorkFailed
from resnets.files import write_bytes
from resnets.model import load
from resnets.training.building import trainer as built
from resnets.training.finding import drawn, find
from resnets.training.folder import checkpoint
from resnets.training.folder.keeping import Keeper
from resnets.training.folder.run import Run
from resnets.training.interruptions import Stopped
from resnets.training.options import Options
from resnets.training.parts import Progress
from resnets.training.plan import Plan, plan
from resnets.training.processes import elastic
from resnets.training.processes.world import World
from resnets.training.progress import ProgressLine
from resnets.training.recipe import Recipe

log = logging.getLogger("resnets")

RANGE = "learning-rate.html"  # the range test's plot
BY_RULE = ("precision", "compile", "freeze")  # fields of a recipe that "auto" leaves to a rule; a resumed run keeps them


def start(options: Options) -> Path:
    """Plan a run, make its folder and train; the folder.

    Under torchrun the first process chooses the folder and tells the others; started again after a process died, or as one
    joined, the same command goes on in its folder.
    """
    world = World()
    with world.together():
        if folder := world.told(elastic.folder(options) if world.first else None):
            return gone_on(folder, {}, False, world)
        return begun(options, world)


def begun(options: Options, world: World) -> Path:
    """A new run, trained."""
    with world.in_turn():
        made = plan(options)
    if options.settings.get("learning_rate") == "find":
        made, curve = tried(made, options, world)
    else:
        curve = ()
    folder = None
    if world.first:
        checked(made, options)
        run = Run.create(options, made.data.name, made.name, decided(made), elastic.identity())
        folder = run.folder
        if curve:
            run.note("range test", f"learning rate {made.recipe.learning_rate:g}", curve=curve)
            write_bytes(run.folder / RANGE, drawn(curve, made.recipe.learning_rate).encode())
    return train(Run.open(world.told(folder)), made, world)


def checked(made: Plan, options: Options) -> None:
    """Say what a brief look at the images finds."""
    found = brief(made.data, made.division, made.how.size, options.workers)
    if made.recipe.balance != "none":
        found = [problem for problem in found if problem.kind != "imbalance"]
    for said in in_words(found):
        log.warning("check: %s", said)
    if found:
        log.warning("check: that was a brief look; resnets check %s looks at every image", options.data)


def tried(made: Plan, options: Options, world: World) -> tuple[Plan, Any]:
    """The plan with the learning rate that a range test finds, and the test's curve."""
    found = find(built(made, options, world))
    return replace(made, recipe=replace(made.recipe, learning_rate=found.rate)), found.curve


def decided(made: Plan) -> dict[str, Any]:
    """What a run records of its plan, and holds to when it is resumed."""
    return {
        "network": made.name,
        "start": str(made.start) if made.start else "none",
        "recipe": made.recipe.to_json(),
        "preprocessing": made.how.to_json(),
        "data": made.fingerprint,
        **({"teacher": f"model {load(made.recipe.teacher).sha256[:12]}"} if made.recipe.teacher else {}),
    }


def resume(folder: Path, given: Mapping[str, Any] | None = None, allow_change: bool = False) -> Path:
    """Go on with a run: from its checkpoint, or from step 0 where there is none yet; a finished one is left as it is.

    `given` are options and fields of the recipe that are to be others than the run's own. Raises ValueError, with the
    difference, where these, data or weights have changed since it began, unless `allow_change`; it is recorded then.
    """
    world = World()
    with world.together():
        return gone_on(folder, given or {}, allow_change, world)


def gone_on(folder: Path, given: Mapping[str, Any], allow_change: bool, world: World) -> Path:
    """An earlier run, trained to its end."""
    with world.in_turn():
        run = Run.open(folder)
        if run.finished:
            if run.options.with_changes({name: value for name, value in given.items() if name != "workers"}) != run.options:
                raise ValueError(
                    f"{folder} is finished, and what it would need to go on otherwise is gone; begin another with its "
                    f"weights: resnets train … --init {folder}"
                )
            log.info("%s is finished", folder)
            if world.first:  # a kill after its last line leaves what only a resume would need
                run.clean()
                checkpoint.remove(folder)
            return folder
        made = planned_again(run, given, allow_change)
    return train(run, made, world)


def planned_again(run: Run, given: Mapping[str, Any], allow_change: bool) -> Plan:
    """The plan of a run that goes on, held to what was decided when it began."""
    options = run.options.with_changes(given)
    before = run.document["decided"]
    before = {**before, "recipe": {**Recipe(steps=1).to_json(), **before["recipe"]}}  # fields that are newer than the run
    rules = [name for name in BY_RULE if options.settings.get(name, "auto") == "auto"]
    kept = {name: before["recipe"][name] for name in rules if name in before["recipe"]}
    if options.settings.get("learning_rate") == "find":
        kept["learning_rate"] = before["recipe"]["learning_rate"]
    made = plan(replace(options, settings={**options.settings, **kept}))
    after = decided(made)
    said = differences({**before, "seed": run.options.seed}, {**after, "seed": options.seed})
    run.document["options"] = options.to_json()  # of this time, and where it is another run by that, recorded
    if said:
        if not allow_change:
            raise ValueError(f"{run.folder} can't go on as it began: {said}; --allow-change goes on all the same")
        log.warning("%s goes on otherwise than it began: %s", run.folder, said)
        run.change(options, after, said)
    return made


def differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> str:
    """What was decided and would be other now, field by field, as a sentence; "" where nothing is."""
    said = []
    for name, value in after.items():
        was = before.get(name)
        if isinstance(value, Mapping) and isinstance(was, Mapping):
            fields = [key for key in {**was, **value} if was.get(key) != value.get(key)]
            said += [f"{name} {key} was {was.get(key)} and is now {value.get(key)}" for key in fields]
        elif value != was:
            said.append(f"its {name} was {was} and is now {value}")
    return "; ".join(said)


def same_step(world: World, folder: Path, saved: Mapping[str, Any] | None) -> None:
    """Wait until all processes have read their checkpoint; raise WorkFailed where these are of different steps."""
    steps = sorted(set(world.gathered(saved["step"] if saved else 0)))
    if len(steps) > 1:
        found = " and ".join(str(step) for step in steps)
        raise WorkFailed(
            f"processes found different checkpoints in {folder}, of steps {found}: does every machine see the same files, "
            "whole? Start the command again once it does"
        )


def train(run: Run, made: Plan, world: World) -> Path:
    """Train as planned; the run folder. On Ctrl-C the run is saved and Stopped says how to go on."""
    machine.keep_freed_memory()
    if world.first:
        run.clean()
    log.info("run folder %s", run.folder)
    world.wait()
    trainer = built(made, run.options, world, run.folder)
    progress, parts = Progress(), trainer.parts
    saved = checkpoint.restore(run.folder, parts.network, parts.optimizer, parts.average, parts.learned)
    same_step(world, run.folder, saved)
    if saved:
        if world.first:
            checkpoint.remove_later(run.folder, saved["step"])
        progress = Progress(**saved).by(trainer.steps_per_epoch)
        log.info("going on after step %d of %d", progress.step, trainer.steps)
    progress.steps_per_epoch = trainer.steps_per_epoch
    if world.first:
        run.note_change()
    keeper = Keeper(run, made, trainer, progress)
    keeper.begin()
    if saved and saved["step"] != progress.step:
        keeper.save()
        if world.first:
            checkpoint.keep_only(run.folder, progress.step)
    console = None if world.first else Console(file=io.StringIO())
    try:
        with ProgressLine(trainer.steps, progress.step, keeper.about.epochs, console) as line:
            for event, row in trainer.fit(progress, keeper.due):
                if event == "step":
                    line.step(row)
                elif event == "save":
                    keeper.save()
                else:
                    line.epoch(row, keeper.epoch(row))
    except (Stopped, Terminated) as stopped:  # and saved
        keeper.note("stopped", str(stopped))
        raise type(stopped)(f"{stopped}; resnets train --resume {run.folder} goes on") from None
    finally:
        keeper.close()
    keeper.finish()
    world.leave()
    return run.folder
