"""The TF reference in TensorFlow 1's own way, from its description: layers, names, initialisers, moving averages.

    python tests/recorded/record_tensorflow.py          writes tensorflow.json beside it
    python tests/recorded/record_tensorflow.py '{…}'    does what a test asks for: see `ACTIONS`

It needs TensorFlow, which must not share a process with PyTorch.
"""

import base64
import json
import os
import sys
import tempfile
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import tensorflow
import tensorflow.compat.v1 as tf
from seeded import images, seeded
from tensorflow.python.training.moving_averages import assign_moving_average

DECAY, EPSILON = np.float64(0.999), 1e-3
AVERAGES = ("/moving_mean", "/moving_variance")
OWN = ("kernel", "weight", "bias", "beta", "gamma", "moving_mean", "moving_variance")
RESNET50 = {"blocks": [3, 4, 6, 3], "width": 64, "classes": 1000, "scope": "resnet50", "size": 64, "batch": 1}
TINY = {"blocks": [1, 2, 1, 1], "width": 2, "classes": 5, "scope": "resnet17", "size": 64, "batch": 8, "rate": 1 / 64}


def conv(x, name, width, kernel, stride=1):
    with tf.variable_scope(name):
        shape = [kernel, kernel, x.shape[-1].value, width]
        weight = tf.get_variable("kernel", shape, x.dtype, tf.glorot_uniform_initializer())
    return tf.nn.conv2d(x, weight, strides=[1, stride, stride, 1], padding="SAME")


def norm(x, name, training):
    zeros, ones = (([x.shape[-1].value], x.dtype, start()) for start in (tf.zeros_initializer, tf.ones_initializer))
    with tf.variable_scope(name):
        beta, gamma = tf.get_variable("beta", *zeros), tf.get_variable("gamma", *ones)
        mean = tf.get_variable("moving_mean", *zeros, trainable=False)
        variance = tf.get_variable("moving_variance", *ones, trainable=False)
    if training:  # outside the norm's scope, which gives the companions their names
        averages, (mean, variance) = (mean, variance), tf.nn.moments(x, [0, 1, 2])
        for average, value in zip(averages, (mean, variance), strict=True):
            tf.add_to_collection(tf.GraphKeys.UPDATE_OPS, assign_moving_average(average, value, DECAY, zero_debias=True))
    return tf.nn.batch_normalization(x, mean, variance, beta, gamma, EPSILON)


def bottleneck(x, name, width, stride, training):
    with tf.variable_scope(name):
        y = tf.nn.relu(norm(conv(x, "conv_1", width, 1, stride), "bn_1", training))
        y = tf.nn.relu(norm(conv(y, "conv_2", width, 3), "bn_2", training))
        y = norm(conv(y, "conv_3", 4 * width, 1), "bn_3", training)
        if x.shape[-1].value != 4 * width:
            x = norm(conv(x, "conv_4", 4 * width, 1, stride), "bn_4", training)
        return tf.nn.relu(y + x)


def network(x, spec, training):
    """[n, height, width, channels] → logits [n, classes]."""
    with tf.variable_scope(spec["scope"], reuse=tf.AUTO_REUSE):
        x = tf.nn.relu(norm(conv(x, "conv1", spec["width"], 7, 2), "bn1", training))
        x = tf.nn.max_pool2d(x, 3, 2, "SAME")
        for stage, count in enumerate(spec["blocks"]):
            with tf.variable_scope(f"block{stage + 2}"):
                for unit in range(count):
                    stride = 2 if stage and not unit else 1
                    x = bottleneck(x, f"bottlencek{unit + 1}", spec["width"] * 2**stage, stride, training)
        x = tf.nn.avg_pool2d(x, x.shape[1:3].as_list(), 1, "VALID")  # 7×7 at 224×224
        x = tf.squeeze(x, [1, 2])
        with tf.variable_scope("fc6"):
            shape = [x.shape[-1].value, spec["classes"]]
            weight = tf.get_variable("weight", shape, x.dtype, tf.glorot_uniform_initializer())
            bias = tf.get_variable("bias", spec["classes"], x.dtype, tf.zeros_initializer())
        return tf.nn.xw_plus_b(x, weight, bias)


def batch(spec, seed):
    """Images [n, height, width, channels] and their classes."""
    x = images(spec["batch"], spec.get("channels", 3), spec["size"], seed).transpose(0, 2, 3, 1)
    return x, np.arange(spec["batch"]) % spec["classes"]


def run(spec, result, start=None, steps=(), save=None, optimizer="GradientDescentOptimizer"):
    """Train for `steps`, which are the seeds of their batches, and note everything in the file `result` (.npz).

    `start` is a prefix to restore every variable from, "seeded", or None for the initialisers. `save` maps a step to the
    prefix where it is saved; step 0 is the start.
    """
    found, save = {}, save or {}
    with tf.Graph().as_default(), tf.Session() as session:
        tf.set_random_seed(0)
        x = tf.placeholder(spec.get("kind", "float32"), [None, spec["size"], spec["size"], spec.get("channels", 3)])
        labels = tf.placeholder(tf.int64, [None])
        if steps or spec.get("training"):
            trained = network(x, spec, training=True)
            loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=trained))
            rate, more = spec.get("rate", 0.1), {"momentum": 0.9} if optimizer == "MomentumOptimizer" else {}
            with tf.control_dependencies(tf.get_collection(tf.GraphKeys.UPDATE_OPS)):
                train = getattr(tf.train, optimizer)(rate, **more).minimize(
                    loss, global_step=tf.train.get_or_create_global_step()
                )
        logits, saver = network(x, spec, training=False), tf.train.Saver(max_to_keep=None)
        session.run(tf.global_variables_initializer())
        variables = {variable.op.name: variable for variable in tf.global_variables(spec["scope"] + "/")}
        if start == "seeded":
            own = [variable for name, variable in variables.items() if name.rsplit("/", 1)[-1] in OWN]
            feed = {each.initializer.inputs[1]: seeded(each.op.name, tuple(each.shape.as_list())) for each in own}
            session.run([each.initializer for each in own], feed)
        elif start:
            saver.restore(session, start)
        evaluated, _ = batch(spec, 0)
        averages = {name: variable for name, variable in variables.items() if name.endswith(AVERAGES)}
        for step in (0, *steps):
            if step:
                given, wanted = batch(spec, step)
                found[f"training {step}"], _ = session.run([trained, train], {x: given, labels: wanted})
            found[f"logits {step}"] = session.run(logits, {x: evaluated})
            found |= {f"{name} {step}": array for name, array in session.run(averages).items()}
            if str(step) in save:
                saver.save(session, save[str(step)], write_meta_graph=False)
    np.savez(result, **found)


def load(prefix, result):
    """Every tensor of a checkpoint by TensorFlow's own reader."""
    reader = tf.train.load_checkpoint(prefix)
    found = {name: np.asarray(reader.get_tensor(name)) for name in reader.get_variable_to_shape_map()}
    np.savez(
        result,
        **{name: array.astype(np.float32) if array.dtype.name == "bfloat16" else array for name, array in found.items()},
    )


def many(prefix, count):
    """A checkpoint whose index has several blocks."""
    names = [f"{number}/{'a name that is rather long, ' * 20}" for number in range(count)]
    with tf.Graph().as_default(), tf.Session() as session:
        numbers = [tf.constant(number) for number in range(count)]
        session.run(tf.raw_ops.SaveV2(prefix=prefix, tensor_names=names, shape_and_slices=[""] * count, tensors=numbers))


def kinds(prefix):
    """Every kind of number in two shards, and kinds that aren't read."""
    with tf.Graph().as_default(), tf.Session(config=tf.ConfigProto(device_count={"CPU": 2})) as session:
        for number, kind in enumerate(("float16", "bfloat16", "float32", "float64", "int32", "int64", "bool")):
            with tf.device(f"/cpu:{number % 2}"):
                tf.get_variable(f"kinds/{kind}", initializer=tf.cast(tf.constant([[1, -2, 3], [4, 0, 6]]), kind))
        with tf.device("/cpu:1"):
            tf.get_variable("kinds/empty", initializer=tf.zeros([0, 3]))
            tf.get_variable("kinds/scalar", initializer=tf.constant(7.5))
            tf.get_variable("words", initializer=tf.constant(["one", "another"]))
        session.run(tf.global_variables_initializer())
        tf.train.Saver(sharded=True).save(session, prefix, write_meta_graph=False, write_state=False)


def partitioned(prefix):
    with tf.Graph().as_default(), tf.Session() as session:
        tf.get_variable("whole", initializer=tf.zeros([2]))
        tf.get_variable("parts", [4, 2], initializer=tf.ones_initializer(), partitioner=tf.fixed_size_partitioner(2))
        session.run(tf.global_variables_initializer())
        tf.train.Saver().save(session, prefix, write_meta_graph=False, write_state=False)


def files(prefix):
    return {
        path.name: base64.b64encode(path.read_bytes()).decode()
        for path in sorted(Path(prefix).parent.glob(f"{Path(prefix).name}.*"))
    }


def variables(prefix):
    """[name, kind, shape] of each, in TensorFlow's order."""
    listed = tf.train.list_variables(prefix)
    named = tf.train.load_checkpoint(prefix).get_variable_to_dtype_map()
    return [[name, named[name].name, shape] for name, shape in listed]


def short(array):
    """Numbers as JSON has them, in few digits: 7 of float32, 10 of float64."""
    digits = 7 if array.dtype == np.float32 else 10
    return np.vectorize(lambda number: float(f"{number:.{digits}g}"), otypes=[float])(array).tolist()


def record():
    document = {"tensorflow": tensorflow.__version__}
    with tempfile.TemporaryDirectory() as place:
        prefix, result = f"{place}/model.ckpt", f"{place}/result.npz"
        run(RESNET50 | {"training": True}, result, save={"0": prefix}, optimizer="MomentumOptimizer")
        training = variables(prefix)
        run(RESNET50, result, "seeded", save={"0": prefix})
        inference = [name for name, _, _ in variables(prefix)]
        logits = short(np.load(result)["logits 0"])
        document["resnet50"] = {"spec": RESNET50, "training": training, "inference": inference, "logits": logits}
        document["tiny"] = {"spec": TINY}
        for kind, first in (("float32", "1"), ("float64", "0")):  # and the step before the first whose averages are kept
            run(TINY | {"kind": kind}, result, "seeded", steps=[1, 2, 3], save={"1": f"{place}/tiny-{kind}"})
            found = np.load(result)
            document["tiny"][kind] = {
                name: short(found[name]) for name in found.files if "/moving_" not in name or name[-1] > first
            }
        document["tiny"]["files"] = files(f"{place}/tiny-float32")
        kinds(f"{place}/kinds")
        partitioned(f"{place}/partitioned")
        document["kinds"], document["partitioned"] = files(f"{place}/kinds"), files(f"{place}/partitioned")
    return document


ACTIONS = {action.__name__: action for action in (run, load, many, kinds, partitioned)}

if __name__ == "__main__":
    tf.disable_v2_behavior()
    if len(sys.argv) > 1:
        request = json.loads(sys.argv[1])
        ACTIONS[request.pop("action")](**request)
    else:
        lines = [f"{json.dumps(key)}: {json.dumps(value, separators=(',', ':'))}" for key, value in record().items()]
        Path(__file__).with_name("tensorflow.json").write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")
