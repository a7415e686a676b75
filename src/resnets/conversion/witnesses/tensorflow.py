"""TensorFlow as a witness: the network of a checkpoint in plain operations, under the names that the checkpoint has."""

import re
from pathlib import Path
from typing import Any

import numpy as np

from resnets.architecture import Architecture
from resnets.errors import need
from resnets.weights.forms.tensor_bundle import find_bundle

LIBRARY = "tensorflow-cpu"
EPSILON = 1e-3
BATCH = 16  # images at a time


def logits(path: Path, net: Architecture, tensors: np.ndarray) -> np.ndarray:
    """float32 [n, channels, height, width] → float32 [n, classes], as TensorFlow 1 computes them.

    The layers are those that the checkpoint names, whatever `net` says; its variables are restored by `Saver`.
    """
    tf = need("tensorflow", "convert", "TensorFlow as a witness").compat.v1
    prefix = str(find_bundle(path) or path)
    reader = tf.train.load_checkpoint(prefix)
    with tf.Graph().as_default(), tf.Session() as session:
        x = tf.placeholder(tf.float32, [None, *(tensors.shape[axis] for axis in (2, 3, 1))])
        y, variables = _network(tf, reader, x)
        tf.train.Saver(variables).restore(session, prefix)
        nhwc = tensors.transpose(0, 2, 3, 1)
        parts = [session.run(y, {x: nhwc[start : start + BATCH]}) for start in range(0, len(nhwc), BATCH)]
    return np.concatenate(parts).astype(np.float32)


def tensors(path: Path, images: list[np.ndarray]) -> np.ndarray | None:
    """None: a checkpoint says nothing of how images become tensors."""
    return None


def _network(tf: Any, reader: Any, x: Any) -> tuple[Any, dict[str, Any]]:
    """Logits of x [n, height, width, channels], and the variables by their names."""
    shapes, kinds = reader.get_variable_to_shape_map(), reader.get_variable_to_dtype_map()
    (first,) = (name for name in shapes if re.fullmatch(r"(.+/)?conv1/kernel", name))
    scope, variables = first.removesuffix("conv1/kernel"), {}

    def variable(name: str) -> Any:
        whole = scope + name
        variables[whole] = tf.get_variable(whole, shapes[whole], kinds[whole], trainable=False, use_resource=False)
        return tf.cast(variables[whole], tf.float32)

    def layer(y: Any, conv: str, bn: str, stride: int = 1) -> Any:
        y = tf.nn.conv2d(y, variable(f"{conv}/kernel"), strides=[1, stride, stride, 1], padding="SAME")
        mean, variance, beta, gamma = (
            variable(f"{bn}/{part}") for part in ("moving_mean", "moving_variance", "beta", "gamma")
        )
        return tf.nn.batch_normalization(y, mean, variance, beta, gamma, EPSILON)

    def bottleneck(y: Any, place: str, stride: int) -> Any:
        z = tf.nn.relu(layer(y, f"{place}/conv_1", f"{place}/bn_1", stride))
        z = tf.nn.relu(layer(z, f"{place}/conv_2", f"{place}/bn_2"))
        z = layer(z, f"{place}/conv_3", f"{place}/bn_3")
        if f"{scope}{place}/conv_4/kernel" in shapes:
            y = layer(y, f"{place}/conv_4", f"{place}/bn_4", stride)
        return tf.nn.relu(z + y)

    x = tf.nn.relu(layer(x, "conv1", "bn1", 2))
    x = tf.nn.max_pool2d(x, ksize=3, strides=2, padding="SAME")
    for block, unit in _blocks(scope, shapes):
        x = bottleneck(x, f"block{block}/bottlencek{unit}", 2 if block > 2 and unit == 1 else 1)
    x = tf.reduce_mean(x, [1, 2])  # at 224×224 the reference's 7×7 average pool
    return tf.nn.xw_plus_b(x, variable("fc6/weight"), variable("fc6/bias")), variables


def _blocks(scope: str, shapes: dict[str, list[int]]) -> list[tuple[int, int]]:
    """(block, bottleneck) in order."""
    pattern = re.compile(re.escape(scope) + r"block(\d+)/bottlencek(\d+)/conv_1/kernel")
    return sorted((int(match[1]), int(match[2])) for name in shapes if (match := pattern.fullmatch(name)))
