"""What int8 costs a trained model and what it brings: its export's certificate, on the data's test or validation images.

    python studies/int8.py MODEL DATA [MODEL DATA …] [--out FILE]

Calibrated on other images than are measured, as `resnets export --precision int8` does; a drop of any size is reported.
"""

import tempfile
from pathlib import Path

import resnets
from resnets import bench
from resnets.exporting.verification import read_certificate


def main() -> None:
    parser = bench.parser(__doc__ or "")
    parser.add_argument("pairs", nargs="+", metavar="MODEL DATA")
    options = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as place:
        for number, (model, data) in enumerate(zip(options.pairs[::2], options.pairs[1::2], strict=True)):
            out = Path(place) / str(number)
            resnets.export(model, out, format="openvino", precision="int8", input="crops", data=data, max_drop=100.0)
            found = read_certificate(out)
            real = found["real"]
            rows.append({
                "name": Path(data).name, "part": real["part"], "images": real["images"],
                "float32": real["accuracy"]["model"], "int8": real["accuracy"]["export"],
                "drop": real["accuracy"]["drop"], "interval": real["accuracy"]["interval"],
                "lost": round(real["accuracy"]["drop"] * real["images"]), "agreement": real["top1_agreement"],
                "speed_up": found["int8_speed_up"],
            })  # fmt: skip
    bench.report(options, rows, {f"drop of {row['name']}": row["drop"] for row in rows})


if __name__ == "__main__":
    main()
