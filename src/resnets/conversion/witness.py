"""The program of a witness: another library's logits of a file. One argument, a JSON request as `proof` makes it."""

import importlib
import importlib.metadata
import json
import sys
from pathlib import Path

import numpy as np

from resnets.architecture import Architecture


def main() -> None:
    request = json.loads(sys.argv[1])
    witness = importlib.import_module(f"resnets.conversion.witnesses.{request['ecosystem']}")
    path, net = Path(request["path"]), Architecture.from_json(request["architecture"])
    with np.load(request["asked"], allow_pickle=False) as asked:
        tensors = asked["tensors"]
        images = [asked[f"image_{number}"] for number in range(len(asked.files) - 1)]
    found = {"version": np.array(importlib.metadata.version(witness.LIBRARY)), "logits": witness.logits(path, net, tensors)}
    own = witness.tensors(path, images) if images else None
    if own is not None:
        found |= {"tensors": own, "own": witness.logits(path, net, own)}
    np.savez(request["answered"], **found)


if __name__ == "__main__":
    main()
