"""The page of `resnets check`: a dataset's figures, and what was found, with pictures beside each other."""

import base64
import io
from collections.abc import Mapping
from html import escape
from pathlib import Path

from PIL import Image

from resnets.data import open_dataset
from resnets.data.dataset import Dataset, Images
from resnets.data.decode import UnreadableImage
from resnets.data.health import check
from resnets.data.health.found import KINDS, Health, Problem, printable
from resnets.files import write_bytes
from resnets.pages.shell import figures, page, section, table

PICTURE = 128  # pixels of a picture's longer side
PROBLEMS, PICTURES = 20, 6  # of each kind, and of each problem, that are shown
UNSEEN = ("unreadable", "empty_file", "too_large", "outside_root")  # kinds without a picture
STYLE = """<style>
.all { display: flex; flex-wrap: wrap; gap: .6rem; }
.found { background: var(--card); border-radius: 8px; padding: .6rem; }
.found > div { display: flex; flex-wrap: wrap; gap: .6rem; }
.found figure { margin: 0; max-width: 144px; } .found img { display: block; max-width: 128px; max-height: 128px; }
.found figcaption, .found p { font-size: .8rem; overflow-wrap: anywhere; margin: 0; }
.found p { color: var(--soft); margin-top: .4rem; max-width: 40rem; }
.found.one { max-width: 144px; }
</style>"""


def check_and_show(data: str, *, out: str | None = None, exclude: str | None = None, size: int | None = None) -> Health:
    """`health.check`, and its page written to `out`. ValueError, before any work, where that has no folder."""
    path = None if out is None else Path(out)
    if path is not None and not path.absolute().parent.is_dir():
        raise ValueError(f"there is no folder {path.parent} to write {path.name} to")
    found = check(data, exclude=exclude, size=size)
    if path is not None:
        write_bytes(path, health_page(found, open_dataset(data)).encode())
    return found


def health_page(health: Health, data: Dataset) -> str:
    """A self-contained HTML page; the pictures are read from `data`, which is what was checked."""
    place = {key: index for index, key in enumerate(data.images.keys)}
    name, (_, *lines) = printable(health.name), health.in_words()
    parts = [figures([
        (f"{health.images:,}", "images"),
        (f"{len(health.classes):,}", "classes"),
        (f"{len(health.problems):,}", "problems"),
        (f"{len(health.leave_out):,}", "images that training is better off without"),
    ])]  # fmt: skip
    rows = [
        (printable(label), *(health.table[label][split] for split in health.splits), images)
        for label, images in health.classes.items()
    ]
    body = "".join(f"<p>{escape(line)}</p>" for line in lines)
    parts.append(section("Images", body + table(["class", *map(printable, health.splits), "images"], rows)))
    for kind, count in health.counts().items():
        shown = "".join(_problem(problem, data.images, place) for problem in health.of(kind)[:PROBLEMS])
        more = f"<p>and {count - PROBLEMS:,} more; --json lists all</p>" if count > PROBLEMS else ""
        title = f"{kind.replace('_', ' ').capitalize()}: {count:,}"
        parts.append(
            section(title, f'<p>{escape(KINDS[kind][0].upper() + KINDS[kind][1:])}.</p><div class="all">{shown}</div>{more}')
        )
    lead = "Nothing was changed." if health.problems else "No problem was found."
    return page(f"How healthy is it? {name}", lead, *parts, head=STYLE)


def _problem(problem: Problem, images: Images, place: Mapping[str, int]) -> str:
    """One problem: its pictures with their names, and the detail."""
    shown = []
    for path in problem.paths[:PICTURES]:
        index = None if problem.kind in UNSEEN else place.get(path)
        picture = "" if index is None else _picture(images, index)
        shown.append(f"<figure>{picture}<figcaption>{escape(printable(path))}</figcaption></figure>")
    more = len(problem.paths) - PICTURES
    said = printable(problem.detail) + (f"; and {more:,} more" if more > 0 else "")
    return f'<div class="found{" one" * (len(shown) == 1)}"><div>{"".join(shown)}</div><p>{escape(said)}</p></div>'


def _picture(images: Images, index: int) -> str:
    """A small copy of an image, within the page; "" where it can't be read."""
    try:
        pixels = images.read(index, least=PICTURE)
    except UnreadableImage:
        return ""
    picture = Image.fromarray(pixels)
    picture.thumbnail((PICTURE, PICTURE))
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=80)
    return f'<img alt="" src="data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}">'
