"""Keras's way, in a process of its own: for each number read, so many images of a folder predicted, and a line of JSON.

    echo 64 | KERAS_BACKEND=tensorflow python benchmarks/in_keras.py FOLDER

{"images", "seconds", "labels"}: ResNet-50 with random weights. The folder's images in turn, from the first again where
there are fewer.
"""

import importlib
import json
import os
import sys
import time
from typing import Any


def main() -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what Keras and TensorFlow say goes to standard error
    keras: Any = importlib.import_module("keras")
    tf: Any = importlib.import_module("tensorflow")
    model = keras.applications.ResNet50(weights=None)
    photos = keras.utils.image_dataset_from_directory(
        sys.argv[1], labels=None, image_size=(224, 224), batch_size=None, shuffle=False, crop_to_aspect_ratio=True
    )
    for line in sys.stdin:
        count = int(line)
        batches = photos.repeat().take(count).batch(32)
        began = time.perf_counter()
        ready = batches.map(keras.applications.resnet50.preprocess_input, num_parallel_calls=tf.data.AUTOTUNE)
        scores = model.predict(ready.prefetch(tf.data.AUTOTUNE), verbose=0)
        labels = [f"class {index}" for index in scores.argmax(1)]
        answer = {"images": count, "seconds": time.perf_counter() - began, "labels": labels}
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
